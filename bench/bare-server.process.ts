/** The process of `bare-server.ts`. Its parent sends what a GET is answered, and is told the port. */
import { createServer } from 'node:http';

process.once('message', (text: string) => {
  const body = Buffer.from(text);
  const type = 'application/json; charset=utf-8';
  const headers = { 'Content-Type': type, 'Content-Length': body.length };
  const server = createServer((request, response) => {
    if (request.method === 'GET') return void response.writeHead(200, headers).end(body);
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const echo = Buffer.concat(chunks);
      response.writeHead(201, { 'Content-Type': type, 'Content-Length': echo.length }).end(echo);
    });
  });
  server.listen(0, '127.0.0.1', () => process.send!((server.address() as { port: number }).port));
});
process.once('disconnect', () => process.exit());
