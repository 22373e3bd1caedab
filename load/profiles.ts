/** What is offered, what has to hold, and what users look at. */

export const profiles = {
  O: { says: 'orders only, 10,000 a minute', requestsPerSecond: 167, ordersPerSecond: 167 },
  B: { says: '70 % reads, 30 % orders', requestsPerSecond: 3_333, ordersPerSecond: 1_000 },
  A: { says: '90 % reads, 10 % orders', requestsPerSecond: 10_000, ordersPerSecond: 1_000 },
  C: { says: 'stretch: 70 % reads, 30 % orders', requestsPerSecond: 10_000, ordersPerSecond: 3_000 },
} as const;
export type ProfileName = keyof typeof profiles;

/** In milliseconds, of 99 % of requests, events or orders; of orders' ends, of all of them. */
export const limits = {
  place: { must: 300, aim: 30 },
  reads: { must: 150, aim: 15 },
  freshness: { must: 5_000, aim: 100 },
  ends: { must: 5_000, aim: 1_000 },
} as const;

/** Of a hundred reads. `staff` are operators, everyone else a customer with orders of their own. */
export const readMix = [
  { name: 'own order', percent: 45, staff: false },
  { name: 'hot order', percent: 10, staff: true },
  { name: 'product', percent: 25, staff: false },
  { name: 'customer', percent: 6, staff: false },
  { name: 'own orders', percent: 6, staff: false },
  { name: 'product list', percent: 3, staff: false },
  { name: 'product search', percent: 2, staff: false },
  { name: 'order list', percent: 2, staff: true },
  { name: 'order search', percent: 1, staff: true },
] as const;
export type ReadKind = (typeof readMix)[number]['name'];

/** What follows at once from an order that was taken, on the same connection and beyond the offered rate. */
export const followUps = { ownReadShare: 0.05, cancelShare: 0.01 } as const;
export type RequestKind = 'place' | 'cancel' | 'own write' | ReadKind;

/** The share of reads that send the entity tag they know, where they know one. */
export const ifNoneMatchShare = 0.3;
/** The share of payments that are declined. */
export const declinedShare = 0.03;
/** The share of answers whose whole body is checked against its schema; every one is looked at. */
export const fullCheckShare = 0.02;
/** The share of connections that belong to staff. */
export const staffShare = 0.1;
