/** What a client may see of a stream: the sequential models that histories are held against. */
import type { Performed } from './history.ts';
import type { Model } from './linearizability.ts';

/** A product or a customer: a register whose version counts its changes. No two operations put the same value. */
const register: Model<number, Performed> = {
  initial: 0,
  nameOf: String,
  step(version, done) {
    if (done.operation !== 'put') return null;
    const allowed = done.expect === null || done.expect === version;
    const { outcome } = done;
    switch (outcome.type) {
      case 'ok':
        return allowed && outcome.version === version + 1 ? version + 1 : null;
      case 'fail':
        if (outcome.code === 'not-sent') return version;
        return !allowed && outcome.code === 'version-mismatch' && outcome.version === version ? version : null;
      case 'info':
        return allowed ? version + 1 : null;
    }
  },
};

/** `ended` by the saga, which no client orders: it is known from the first refusal that tells of it. */
type OrderSeen = 'none' | 'open' | 'cancelled' | 'completed' | 'failed';

const order: Model<OrderSeen, Performed> = {
  initial: 'none',
  nameOf: (seen) => seen,
  step(seen, { operation, outcome }) {
    if (outcome.type === 'fail') return seenByRefusal(seen, outcome);
    if (operation === 'place') {
      const fits = outcome.type === 'info' || outcome.version === 1;
      return seen === 'none' && fits ? 'open' : null;
    }
    if (operation === 'put') return null;
    const fits = outcome.type === 'info' || outcome.version > 1;
    return seen === 'open' && fits ? 'cancelled' : null;
  },
};

function seenByRefusal(seen: OrderSeen, refusal: Extract<Performed['outcome'], { type: 'fail' }>): OrderSeen | null {
  switch (refusal.code) {
    case 'not-sent':
      return seen;
    case 'order-exists':
      return seen === 'none' ? null : seen;
    case 'order-not-found':
      return seen === 'none' ? seen : null;
    case 'order-not-cancellable':
      if (refusal.status === seen) return seen;
      return seen === 'open' && (refusal.status === 'completed' || refusal.status === 'failed') ? refusal.status : null;
    case 'version-mismatch':
      return null;
  }
}

/** The model of a stream, by the type in its name. */
export const modelOf = (stream: string): Model<unknown, Performed> => (stream.startsWith('order-') ? order : register);
