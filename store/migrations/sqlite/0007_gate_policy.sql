-- What workers on one database share of a destination's quota and breakers, as JSON. The column `ration` is what versions
-- before this one share; they neither read nor write this one.
ALTER TABLE gates ADD COLUMN policy TEXT;
