import { eventLogContract } from './event-log.contract.ts';
import { openMemoryLog } from './memory-log.ts';

eventLogContract('memory log', async () => openMemoryLog('orders.0'));
