/** What does a PACK of the server hold? A JSON head and named float32 blocks, read without copying. */

/**
 * @param {ArrayBuffer} buffer uint32 length of the head, the head, the blocks; little endian
 * @returns {{head: Object, blocks: Object<string, Float32Array>}} blocks by name, C order
 * @throws {Error} the buffer is shorter than its head says
 */
export function readPack(buffer) {
  if (buffer.byteLength < 4) throw new Error('the server sent an empty answer; reload the page');
  const length = new DataView(buffer).getUint32(0, true);
  if (4 + length > buffer.byteLength) throw new Error('the server sent an incomplete answer; reload the page');
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const blocks = {};
  let offset = 4 + length;
  for (const { name, shape } of head.blocks) {
    const count = shape.reduce((a, b) => a * b, 1);
    if (offset + 4 * count > buffer.byteLength) throw new Error(`the server sent an incomplete answer (${name}); reload the page`);
    blocks[name] = new Float32Array(buffer, offset, count);
    offset += 4 * count;
  }
  return { head, blocks };
}
