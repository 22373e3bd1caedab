import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Answer, AnswerReader, headerOf, NotHttp } from './answer-reader.ts';

const plain =
  'HTTP/1.1 200 OK\r\nConsistency-Token: abCD_12\r\nETag: "3"\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"a":"b\r\n"}';
const chunked =
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{"a"\r\nA;x=y\r\n:"12345678\r\n2\r\n"}\r\n0\r\nTrailer: 1\r\n\r\n';
const unchanged = 'HTTP/1.1 304 Not Modified\r\nETag: "3"\r\n\r\n';
const onTheWay = 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n';

/** Each piece arrives in the same memory, as in a connection. */
function read(text: string, cuts: readonly number[] = []): Answer | null {
  const reader = new AnswerReader();
  const bytes = Buffer.from(text, 'latin1');
  const memory = Buffer.alloc(bytes.length);
  const ends = [...cuts.map((cut) => cut % bytes.length), bytes.length].sort((a, b) => a - b);
  let from = 0;
  let answer: Answer | null = null;
  for (const to of ends) {
    assert.equal(answer, null, 'an answer before all of it was there');
    if (to === from) continue;
    memory.fill(0);
    bytes.copy(memory, 0, from, to);
    const taken = reader.take(memory.subarray(0, to - from));
    answer = taken && { ...taken, body: Buffer.from(taken.body) };
    from = to;
  }
  return answer;
}

test('an answer is read however its bytes are cut', () => {
  const cuts = fc.array(fc.nat({ max: 400 }), { maxLength: 8 });
  for (const [text, body] of [
    [plain, '{"a":"b\r\n"}'],
    [chunked, '{"a":"12345678"}'],
    [unchanged, ''],
    [onTheWay + plain, '{"a":"b\r\n"}'],
  ] as const) {
    fc.assert(
      fc.property(cuts, (at) => {
        const answer = read(text, at);
        assert.equal(answer?.body.toString(), body);
        assert.equal(answer.status, text === unchanged ? 304 : 200);
        assert.equal(answer.keepAlive, true);
      }),
    );
  }
});

test('headers are found whatever the case of their names', () => {
  const { head } = read(plain.replace('ETag', 'etAG'))!;
  assert.equal(headerOf(head, 'consistency-token'), 'abCD_12');
  assert.equal(headerOf(head, 'etag'), '"3"');
  assert.equal(headerOf(head, 'retry-after'), undefined);
});

test('a server may say that it closes, and an answer without a length ends with the connection', () => {
  assert.equal(read(plain.replace('OK\r\n', 'OK\r\nConnection: close\r\n'))!.keepAlive, false);
  const reader = new AnswerReader();
  assert.equal(reader.take(Buffer.from('HTTP/1.0 200 OK\r\n\r\nhel')), null);
  assert.equal(reader.take(Buffer.from('lo')), null);
  const answer = reader.close()!;
  assert.deepEqual([answer.body.toString(), answer.keepAlive], ['hello', false]);
});

test('a connection that closes in the middle of an answer has given none', () => {
  for (const text of ['HTTP/1.1 200 OK\r\nContent-Le', plain.slice(0, -1), chunked.slice(0, -2)]) {
    const reader = new AnswerReader();
    assert.equal(reader.take(Buffer.from(text)), null);
    assert.equal(reader.close(), null);
  }
  assert.equal(new AnswerReader().close(), null);
});

test('what is not one answer is told as such', () => {
  for (const text of [
    'HELLO\r\n\r\n',
    `${plain}HTTP/1.1`,
    `${unchanged}x`,
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd0\r\n\r\n',
    'x'.repeat(70_000),
  ]) {
    assert.throws(() => read(text), NotHttp, text.slice(0, 60));
  }
});

test('a connection has one answer after the other', () => {
  const reader = new AnswerReader();
  for (const status of [200, 304])
    assert.equal(reader.take(Buffer.from(status === 200 ? plain : unchanged))?.status, status);
});
