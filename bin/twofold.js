#!/usr/bin/env node
// The `twofold` command, on whatever Node runs it. The program itself needs Node 24 for its TypeScript:
// an older one hands over to the Node that npm has installed beside it (the package `node`).
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const main = new URL('../src/main.ts', import.meta.url);

if (Number.parseInt(process.versions.node, 10) >= 24) await import(main.href);
else handOver(findNode());

function findNode() {
  try {
    const folder = dirname(createRequire(import.meta.url).resolve('node/package.json'));
    const node = join(folder, 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
    if (existsSync(node)) return node;
  } catch {
    // Not installed: said below.
  }
  console.error(
    `Twofold needs Node 24 or newer, this is ${process.versions.node}, and the one that npm installs is not there.\n` +
      'Run `npm ci` (if it says that install scripts are off: `npm rebuild node`), or install Node 24 or newer.',
  );
  process.exit(1);
}

function handOver(node) {
  const child = spawn(node, [fileURLToPath(main), ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('error', (error) => {
    console.error(`${node} cannot be run: ${error.message}`);
    process.exit(1);
  });
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}
