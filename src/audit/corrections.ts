/** What repairs need of the services that run in this process. */
import type { CommandServiceName } from '#contracts/service.ts';
import type { CommandBus } from '#cqrs/command-bus.ts';

export type Corrections = {
  readonly buses: Readonly<Record<Extract<CommandServiceName, 'ordering'>, CommandBus>>;
};
