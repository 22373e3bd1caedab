import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CustomerChanged, CustomerRegistered } from '#contracts/ordering.ts';
import { given } from '#cqrs/decider.fixture.ts';
import { customer, type RegisterCustomer } from './customer.ts';

const details = { customerId: 'ada', name: 'Ada', email: 'ada@example.org', country: 'United Kingdom' };
const registered: CustomerRegistered = { type: 'CustomerRegistered', data: details };
const register = (more: object = {}): RegisterCustomer => ({ type: 'RegisterCustomer', ...details, ...more });
const changed = (more: object): CustomerChanged => ({ type: 'CustomerChanged', data: { ...details, ...more } });

test('a customer who is new is registered', () => {
  given(customer).when(register()).then(registered);
});

test('a customer needs no more than a name', () => {
  const data = { customerId: 'ada', name: 'Ada' };
  given(customer)
    .when({ type: 'RegisterCustomer', ...data })
    .then({ type: 'CustomerRegistered', data });
});

test('a customer who is registered as before does not change', () => {
  given(customer, registered).when(register()).then();
});

test('a customer changes with each detail that is told otherwise', () => {
  for (const more of [{ name: 'Ada L.' }, { email: 'ada@example.com' }, { country: 'France' }]) {
    given(customer, registered).when(register(more)).then(changed(more));
  }
});

test('details that are left out are taken away', () => {
  const data = { customerId: 'ada', name: 'Ada' };
  given(customer, registered)
    .when({ type: 'RegisterCustomer', ...data })
    .then({ type: 'CustomerChanged', data });
  assert.deepEqual(given(customer, registered, { type: 'CustomerChanged', data }).state, {
    status: 'registered',
    name: 'Ada',
  });
});
