// A description in which this browser says what it can, but does not offer by itself: lost sound may be sent again (RFC 4585), and
// who only receives learns the round trip (RFC 3611), so that it asks again soon enough for what is still missing.
export function repairable(sdp) {
  return sdp.replace(/a=rtpmap:(\d+) (\w+)\/(?:48000\/2|90000)\r\n/g, (line, type, codec) => {
    if (/^(rtx|red|ulpfec|flexfec)/i.test(codec)) return line;
    const nack = codec.toLowerCase() === "opus" ? `a=rtcp-fb:${type} nack\r\n` : "";
    return `${line}${nack}a=rtcp-fb:${type} rrtr\r\n`;
  });
}

// Offers from a connection, with that where the browser lets a page say it.
export async function offer(connection) {
  const { sdp } = await connection.createOffer();
  await connection.setLocalDescription({ type: "offer", sdp: repairable(sdp) }).catch(() => connection.setLocalDescription());
}
