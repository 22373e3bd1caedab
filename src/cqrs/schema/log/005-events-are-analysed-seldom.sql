-- Events are read by position and by stream, along indexes whatever their statistics say: a log that doubles every few
-- seconds was analysed each time, and each time for a fifth of a second.
alter table events set (autovacuum_analyze_threshold = 1000000);
