-- INSERT OR REPLACE removes the row that was there without a word to the triggers for deletes.
CREATE TRIGGER opt_ledger_is_never_replaced BEFORE INSERT ON opt_ledger
WHEN EXISTS (SELECT 1 FROM opt_ledger WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'the opt-out ledger is append-only'); END;
