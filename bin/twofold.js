#!/usr/bin/env node
// The `twofold` command, on whatever Node runs it. The program itself needs Node 24 for its TypeScript:
// an older one hands over to the Node that npm has installed beside it (the package `node`).
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const main = new URL('../src/main.ts', import.meta.url);
const isServer = ['up', 'serve'].includes(process.argv[2]);

// What a thousand requests a second leave behind is dead before a young generation of this size is full: in the usual one
// it grows old, and has to be sought among all that lives. It cannot be told to a process that runs.
const serverOptions = ['--max-semi-space-size=64'];

if (Number.parseInt(process.versions.node, 10) < 24) handOver(findNode());
else if (isServer && process.platform !== 'win32') becomeServer();
else await import(main.href);

/** The same process, its terminal and its signals: only Node begins anew. */
function becomeServer() {
  const args = [...process.execArgv, ...serverOptions, fileURLToPath(main), ...process.argv.slice(2)];
  process.execve(process.execPath, [process.execPath, ...args], process.env);
}

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
  const options = isServer ? serverOptions : [];
  const child = spawn(node, [...options, fileURLToPath(main), ...process.argv.slice(2)], { stdio: 'inherit' });
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
