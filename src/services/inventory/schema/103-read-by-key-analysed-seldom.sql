-- As with the tables of the log, which these are written with.
alter table reservations set (autovacuum_analyze_threshold = 1000000);
