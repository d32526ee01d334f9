// One membership of a room, over as many WebSocket connections as it takes.
const FIRST = 250, LONGEST = 8000, PATIENCE = 60000; // ms
const REFUSED = 4001;

export class Room {
  constructor(options) {
    Object.assign(this, options);
    this.key = "";
    this.known = new Set();
    this.over = false;
    this.unsent = [];
  }

  async open() {
    await this.connect({ join: this.room, token: this.token, role: this.role });
  }

  connect(hello) {
    return new Promise((resolve, reject) => {
      const url = new URL("socket", location.href);
      url.protocol = url.protocol.replace("http", "ws");
      const socket = (this.socket = new WebSocket(url));
      let welcome = false;
      socket.onopen = () => socket.send(JSON.stringify(hello));
      socket.onmessage = (event) => {
        const message = JSON.parse(event.data);
        if (message.welcome) {
          welcome = true;
          this.key = message.key;
          this.enter(message.members);
          resolve();
        } else if (message.from) this.received(message.from, message.data);
        else if (message.joined) this.come(message.joined, message.role);
        else if (message.left) this.go(message.left);
      };
      socket.onclose = (event) => {
        if (!welcome) reject(new Error(event.code === REFUSED ? `The room did not let us in: ${event.reason}.` : "The signalling server does not answer."));
        else if (!this.over) event.code === REFUSED ? this.ended(event.reason) : this.back();
      };
    });
  }

  enter(members) {
    const present = new Set(members.map((member) => member.id));
    for (const id of [...this.known]) if (!present.has(id)) this.go(id);
    for (const member of members) this.come(member.id, member.role);
    for (const text of this.unsent.splice(0)) this.socket.send(text);
    if (!members.some((member) => member.role === "script")) this.waiting();
  }

  come(id, role) {
    if (this.known.has(id)) return;
    this.known.add(id);
    this.joined(id, role);
  }

  go(id) {
    this.known.delete(id);
    this.left(id);
  }

  async back() {
    const until = Date.now() + PATIENCE;
    for (let pause = FIRST; Date.now() < until && !this.over; pause = Math.min(pause * 2, LONGEST)) {
      try {
        return await this.connect({ resume: this.key });
      } catch (error) {
        if (error.message.startsWith("The room")) break;
        await new Promise((resolve) => setTimeout(resolve, pause * (0.7 + 0.6 * Math.random())));
      }
    }
    if (!this.over) this.ended("The connection to the room is lost: ask for a new invitation.");
  }

  send(to, data) {
    const text = JSON.stringify({ to, data });
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(text);
    else if (this.unsent.length < 100) this.unsent.push(text);
  }

  close() {
    this.over = true;
    this.socket?.close(1000);
  }
}
