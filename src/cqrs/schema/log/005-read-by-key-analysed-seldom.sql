-- Logs are read by keys and positions, along indexes whatever the statistics of their tables say. Tables that double every
-- few seconds were analysed each time, all of them one after the other, while whoever writes waited for the processor.
alter table events set (autovacuum_analyze_threshold = 1000000);
alter table streams set (autovacuum_analyze_threshold = 1000000);
alter table idempotency_keys set (autovacuum_analyze_threshold = 1000000);
alter table batches set (autovacuum_analyze_threshold = 1000000);
