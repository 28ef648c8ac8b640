-- A foreign key locks the row it names, which needs the right to UPDATE it; of files nobody has that, the owner of the tables
-- included. So only a superuser could reconcile. Files are never deleted, and a run names the one it has just found or written.
SET LOCAL lock_timeout = '10s';
ALTER TABLE reconciliation_runs DROP CONSTRAINT reconciliation_runs_file_fkey;
