/** Once in a while what a read was answered from is looked at: the answer in memory, and the row behind it. */
import type { QueryRoute } from '#contracts/routes.ts';
import type { Ports } from '#platform/ports.ts';

/** What somebody has just read. */
export type Sample = { readonly table: 'orders' | 'customers' | 'products'; readonly id: string };

export type Sampling = {
  /** The route, of which a read is sampled now and then; any other one as it is. */
  sampled(route: QueryRoute): QueryRoute;
  stop(): void;
};

/** One read in so much time, whatever is asked for. */
const sampleEveryMs = 1_000;

/** By address, the parameter that names what is read. */
const sources: Readonly<Record<string, { readonly table: Sample['table']; readonly parameter: string }>> = {
  '/v1/orders/:orderId': { table: 'orders', parameter: 'orderId' },
  '/v1/customers/:customerId': { table: 'customers', parameter: 'customerId' },
  '/v1/products/:sku': { table: 'products', parameter: 'sku' },
};

/** `take` is told of each sample once it was answered. */
export function startSampling(ports: Ports, take: (sample: Sample) => void): Sampling {
  let isDue = false;
  const stop = ports.every(sampleEveryMs, () => {
    isDue = true;
  });
  return {
    stop,
    sampled(route) {
      const source = sources[route.url];
      if (source === undefined) return route;
      const { table, parameter } = source;
      const { kept } = route;
      // The others pay for one look at a flag.
      const sampling: QueryRoute = {
        ...route,
        read(request) {
          const answer = route.read(request);
          if (isDue) {
            isDue = false;
            const { params } = request as { readonly params: Readonly<Record<string, string>> };
            Promise.resolve(answer).then(
              () => take({ table, id: params[parameter]! }),
              () => {},
            );
          }
          return answer;
        },
      };
      if (kept === undefined) return sampling;
      return {
        ...sampling,
        kept(id, caller) {
          const shown = kept(id, caller);
          if (isDue && shown !== undefined) {
            isDue = false;
            queueMicrotask(() => take({ table, id }));
          }
          return shown;
        },
      };
    },
  };
}
