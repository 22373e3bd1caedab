import { eventLogContract } from './event-log.contract.ts';
import { eventVersionsContract } from './event-types.contract.ts';
import { openMemoryLog } from './memory-log.ts';
import { parkedMessagesContract } from './parked-messages.contract.ts';

eventLogContract('memory log', async () => openMemoryLog('orders.0'));
parkedMessagesContract('memory log', async () => openMemoryLog('orders.0'));
eventVersionsContract('memory log', async (_, eventTypes) => openMemoryLog('orders.0', eventTypes));
