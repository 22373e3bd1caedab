import assert from 'node:assert/strict';
import { test } from 'node:test';
import { help, readFlags, WrongFlags } from './flags.ts';
import { profiles } from './profiles.ts';

test('a profile says how much of what is offered, a factor how much of it', () => {
  for (const [profile, { requestsPerSecond, ordersPerSecond }] of Object.entries(profiles)) {
    const wish = readFlags(['--profile', profile, '--rate-factor', '0.1'])!;
    assert.equal(wish.requestsPerSecond, requestsPerSecond * 0.1);
    assert.equal(wish.requestsPerSecond * wish.orderShare, ordersPerSecond * 0.1);
    assert.equal(wish.connections, 10_000);
  }
});

test('wrong flags are told of with what would be right', () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['--profile X', /--profile is "X"; there are O, B, A, C\./],
    ['--rate-factor 0', /--rate-factor is "0"; right would be a number from 0\.001 to 100\./],
    ['--seconds soon', /--seconds is "soon"/],
    ['--lines 1.5', /--lines is "1\.5"; right would be a whole number from 1 to 1000\./],
    ['--connections 4 --generators 3', /4 are too few for 3 generators/],
    ['--url nowhere', /--url is "nowhere"/],
    ['--url https://shop.example', /without TLS/],
    ['--token x', /give its --url, too/],
    ['--url http://x --tokens f', /--token has to be that of an operator/],
    ['--think-ms 10000 --connections 5000', /takes more than 37034 connections; there are 5000/],
    ['--html no-such-folder/load.html', /there is no folder .*no-such-folder for no-such-folder\/load\.html/],
    ['--speed 9', /Unknown option '--speed'/],
    ['please', /Unexpected argument 'please'/],
  ];
  for (const [args, message] of cases) {
    assert.throws(
      () => readFlags(args.split(' ')),
      (error) => error instanceof WrongFlags && message.test(error.message),
      args,
    );
  }
});

test('help names every flag, every profile and the mix of reads', () => {
  assert.equal(readFlags(['--help']), null);
  for (const word of [
    '--find-limit',
    '--hot-share',
    '--html',
    'profile',
    '10000 requests/s',
    'product search',
    'Examples',
  ])
    assert.ok(help().includes(word), word);
});
