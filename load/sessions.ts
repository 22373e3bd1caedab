/**
 * The users at their connections: each request goes out when it is due over the connection that has rested longest,
 * and comes back, is repeated, or is given up. Latency counts from when a request was due, whatever kept it waiting.
 */
import { type Answer, headerOf } from './answer-reader.ts';
import { type Connection, openConnection, type Target } from './connection.ts';
import type { Sent, User } from './traffic.ts';

/** One request on its way. */
export type Job = {
  readonly sent: Sent;
  readonly dueAtMs: number;
  /** Whether it counts: what was due before or after the measured time does not. */
  readonly counted: boolean;
};

export type SessionsOptions = {
  readonly target: Target;
  readonly localAddresses: readonly string[];
  /** A connection rests for so long after an answer. */
  readonly thinkMs: number;
  /** Default: 10 s. */
  readonly answerTimeoutMs?: number;
  /** A connection that rests for longer is used for nothing in particular. Default: 40 s. */
  readonly restMsMax?: number;
  now(): number;
  /** It was answered: what is wrong with that, or null. Returns what the same user does next. */
  answered(user: User, job: Job, answer: Answer, wrong: string | null): readonly Job[];
  /** It leaves for the first time. */
  sending(job: Job): void;
  /** It was turned away, and that is taken for an answer; without it, commands are sent again. */
  turnedAway?(job: Job): void;
  /** It will be sent again under the same key. */
  repeated(job: Job, why: string): void;
  /** It will never be answered. */
  givenUp(job: Job, why: string): void;
};

export type Sessions = {
  /** Opens the connections of `users`, and has each used once. Rejects when one cannot be opened. */
  open(users: readonly User[], group: Group): Promise<void>;
  /** Sends what `make` makes as soon as a connection of `group` is free. */
  due(group: Group, dueAtMs: number, counted: boolean, make: (user: User) => Sent): void;
  /** To be called every few milliseconds: sends what waits, and what is to be repeated. */
  tick(): void;
  /** To be called about once a second: gives up what is not answered, and keeps alive what rests for long. */
  sweep(): void;
  figures(): { readonly waiting: number; readonly underWay: number; readonly reopened: number };
  /** Gives up whatever is open, and closes all connections. */
  close(): void;
};

export type Group = 'customers' | 'staff';

const openingMax = 128;
const openTimeoutMs = 20_000;
const answerTimeoutMsDefault = 10_000;
/** From when it was due. */
const giveUpMs = 15_000;
const repeatsMax = 5;
const repeatLostMs = 50;
const retryAfterMsMax = 2_000;
const reopenMs = 250;
/** Servers close connections that rest for a minute, and after a quarter of one those that were never used. */
const restMsMaxDefault = 40_000;
const unusedMsMax = 5_000;
const waitingMax = 200_000;

type Session = {
  readonly user: User;
  readonly group: Group;
  readonly localAddress: string | undefined;
  connection: Connection | null;
  isOpen: boolean;
  /** Something came over the connection as it is now. */
  wasAnswered: boolean;
  freeAtMs: number;
  job: Job | null;
  /** It is being kept alive: no request of a user is under way. */
  isGreeting: boolean;
  /** To be called once it has been used for the first time. */
  used: (() => void) | null;
  sentAtMs: number;
  /** When the job is to be sent again; Infinity: it is under way. */
  repeatAtMs: number;
  repeats: number;
  next: Job[];
};

type Waiting = { readonly dueAtMs: number; readonly counted: boolean; readonly make: (user: User) => Sent };

export function createSessions(options: SessionsOptions): Sessions {
  const { target, localAddresses, thinkMs, now } = options;
  const { answerTimeoutMs = answerTimeoutMsDefault, restMsMax = restMsMaxDefault } = options;
  const all: Session[] = [];
  const free = { customers: queue<Session>(), staff: queue<Session>() };
  const waiting = { customers: queue<Waiting>(), staff: queue<Waiting>() };
  const repeating = new Set<Session>();
  let underWay = 0;
  let reopened = 0;
  let closed = false;

  function connectSession(session: Session, whenOpen: () => void, whenNot: (why: string) => void): void {
    session.connection = openConnection(target, session.localAddress, {
      opened() {
        session.isOpen = true;
        session.wasAnswered = false;
        whenOpen();
      },
      answered: (answer) => takeAnswer(session, answer),
      lost(why) {
        const wasOpen = session.isOpen;
        session.isOpen = false;
        session.connection = null;
        if (wasOpen) lose(session, why);
        else whenNot(why);
      },
    });
  }

  function openFirst(session: Session, n: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const failed = (why: string): void =>
      reject(new Error(`connection ${n} to ${target.host}:${target.port} could not be opened: ${why}`));
    const timer = setTimeout(failed, openTimeoutMs, `not within ${openTimeoutMs / 1_000} s`);
    session.used = resolve;
    connectSession(session, () => greet(session), failed);
    return promise.finally(() => {
      clearTimeout(timer);
      session.used = null;
    });
  }

  function reopen(session: Session): void {
    if (closed) return;
    connectSession(
      session,
      () => {
        reopened += 1;
        if (session.job === null) rest(session);
      },
      (why) => {
        if (session.job !== null && now() - session.job.dueAtMs > giveUpMs) giveUp(session, why);
        setTimeout(reopen, reopenMs, session);
      },
    );
  }

  /** Asks for nothing in particular; what comes back is not looked at. */
  function greet(session: Session): void {
    session.isGreeting = true;
    session.sentAtMs = now();
    session.connection!.send(`GET /livez HTTP/1.1\r\n${session.user.headers}\r\n`);
  }

  /** It waits for its next request. */
  function rest(session: Session): void {
    const job = session.next.shift();
    if (job !== undefined) return begin(session, job);
    session.freeAtMs = now();
    free[session.group].put(session);
    serve(session.group);
  }

  function begin(session: Session, job: Job): void {
    session.job = job;
    session.repeats = 0;
    underWay += 1;
    options.sending(job);
    send(session);
  }

  function send(session: Session): void {
    session.sentAtMs = now();
    session.repeatAtMs = Infinity;
    session.connection!.send(session.job!.sent.bytes);
  }

  function takeAnswer(session: Session, answer: Answer): void {
    const { job, user } = session;
    session.wasAnswered = true;
    if (session.isGreeting) {
      session.isGreeting = false;
      session.used?.();
      if (answer.keepAlive) rest(session);
      return;
    }
    if (job === null) return closeConnection(session, 'an answer to nothing');
    // The connection had rested for too long when this was sent, and was being closed.
    if (answer.status === 408 && !answer.keepAlive) return closeConnection(session, '408');
    if (options.turnedAway !== undefined && answer.status === 503 && answer.body.includes('"code":"overloaded"')) {
      finish(session);
      options.turnedAway(job);
      if (answer.keepAlive) rest(session);
      return;
    }
    if (job.sent.isCommand && session.repeats < repeatsMax && isToBeRepeated(answer)) {
      const seconds = Number(headerOf(answer.head, 'retry-after') ?? 1);
      return repeat(session, `${answer.status}`, Math.min(seconds * 1_000, retryAfterMsMax));
    }
    const wrong = job.sent.check(answer);
    finish(session);
    session.next.push(...options.answered(user, job, answer, wrong));
    // A connection that the server closes with this answer is taken up again once it is open.
    if (answer.keepAlive) rest(session);
  }

  function closeConnection(session: Session, why: string): void {
    session.connection?.destroy();
    session.connection = null;
    session.isOpen = false;
    lose(session, why);
  }

  /** An idle connection may be closed at any time; a request on it has had no answer. */
  function lose(session: Session, why: string): void {
    session.isGreeting = false;
    if (session.job === null) free[session.group].remove(session);
    else if (session.repeatAtMs === Infinity) {
      if (session.repeats < repeatsMax) repeat(session, why, repeatLostMs);
      else giveUp(session, why);
    }
    // Whoever opens it only to close it again is not asked without a pause.
    if (session.wasAnswered) reopen(session);
    else setTimeout(reopen, reopenMs, session);
  }

  function repeat(session: Session, why: string, afterMs: number): void {
    const job = session.job!;
    if (now() + afterMs - job.dueAtMs > giveUpMs) return giveUp(session, why);
    session.repeats += 1;
    session.repeatAtMs = now() + afterMs;
    repeating.add(session);
    options.repeated(job, why);
  }

  function giveUp(session: Session, why: string): void {
    const job = session.job!;
    finish(session);
    options.givenUp(job, why);
    if (session.isOpen) rest(session);
  }

  function finish(session: Session): void {
    session.job = null;
    session.repeatAtMs = Infinity;
    repeating.delete(session);
    underWay -= 1;
  }

  function serve(group: Group): void {
    while (waiting[group].size > 0) {
      const session = free[group].first();
      if (session === undefined || now() - session.freeAtMs < thinkMs) return;
      free[group].take();
      const { make, dueAtMs, counted } = waiting[group].take()!;
      begin(session, { sent: make(session.user), dueAtMs, counted });
    }
  }

  function turnAway({ make, dueAtMs, counted }: Waiting): void {
    const nobody: User = { customerId: '', headers: '', orders: [], versions: new Map() };
    options.givenUp({ sent: make(nobody), dueAtMs, counted }, 'no connection was free');
  }

  return {
    async open(users, group) {
      let at = 0;
      const openNext = async (): Promise<void> => {
        for (let user = users[at++]; user !== undefined; user = users[at++]) {
          const session = newSession(user, group, localAddresses[all.length % Math.max(1, localAddresses.length)]);
          all.push(session);
          await openFirst(session, all.length);
        }
      };
      await Promise.all(Array.from({ length: openingMax }, openNext));
    },

    due(group, dueAtMs, counted, make) {
      const one = { dueAtMs, counted, make };
      if (waiting[group].size >= waitingMax) return turnAway(one);
      waiting[group].put(one);
      serve(group);
    },

    tick() {
      serve('customers');
      serve('staff');
      for (const session of repeating) {
        if (!session.isOpen || session.repeatAtMs > now()) continue;
        repeating.delete(session);
        send(session);
      }
    },

    sweep() {
      for (const session of all) {
        const { job, isOpen, isGreeting, wasAnswered, sentAtMs, freeAtMs } = session;
        if (!isOpen) continue;
        if (job === null && !isGreeting) {
          if (now() - freeAtMs < (wasAnswered ? restMsMax : Math.min(unusedMsMax, restMsMax))) continue;
          free[session.group].remove(session);
          greet(session);
        } else if (session.repeatAtMs === Infinity && now() - sentAtMs > answerTimeoutMs)
          closeConnection(session, `no answer within ${answerTimeoutMs / 1_000} s`);
      }
    },

    figures: () => ({ waiting: waiting.customers.size + waiting.staff.size, underWay, reopened }),

    close() {
      closed = true;
      for (const group of ['customers', 'staff'] as const) {
        for (let left = waiting[group].take(); left !== undefined; left = waiting[group].take()) turnAway(left);
      }
      for (const session of all) {
        session.connection?.destroy();
        session.isOpen = false;
        if (session.job !== null) giveUp(session, 'no answer until the end');
        for (const job of session.next.splice(0)) options.givenUp(job, 'no answer until the end');
      }
    },
  };
}

const newSession = (user: User, group: Group, localAddress: string | undefined): Session => ({
  user,
  group,
  localAddress,
  connection: null,
  isOpen: false,
  wasAnswered: false,
  freeAtMs: -Infinity,
  job: null,
  isGreeting: false,
  used: null,
  sentAtMs: 0,
  repeatAtMs: Infinity,
  repeats: 0,
  next: [],
});

/** The command may have been done or not, or was turned away: under its key it can be sent again. */
function isToBeRepeated({ status, body }: Answer): boolean {
  return status === 503 || (status === 409 && body.includes('"idempotency-key-in-flight"'));
}

/** First in, first out. What has been taken goes in large pieces: of 10,000 connections that rest one is taken for each request. */
function queue<T>() {
  let items: T[] = [];
  let taken = 0;
  return {
    get size() {
      return items.length - taken;
    },
    put: (item: T): void => void items.push(item),
    first: (): T | undefined => items[taken],
    take(): T | undefined {
      const first = items[taken];
      if (first === undefined) return undefined;
      taken += 1;
      if (taken >= takenPieceMin && taken * 2 >= items.length) {
        items = items.slice(taken);
        taken = 0;
      }
      return first;
    },
    remove(item: T): void {
      const at = items.indexOf(item, taken);
      if (at >= 0) items.splice(at, 1);
    },
  };
}

const takenPieceMin = 1_024;
