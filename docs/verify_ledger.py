#!/usr/bin/env python3
"""Checks an export of the opt-out ledger without Hookline: the standard library and the ledger's key are enough.

    hookline opt-outs export > ledger.jsonl && python3 verify_ledger.py ledger.jsonl ledger.key [--head HASH]

Exit 0: every entry is as it was written and follows the one before; 1: not so; 2: wrong usage. The key is that of [store]
ledger_key, or ledger.key in data_dir. Against a head kept from an earlier export (its last hash) a cut tail shows, too."""
import argparse
import hashlib
import hmac
import json
import re
import struct

KEYS = set("phone seq kind at event_id account status event_time received_at reason method source_event_id hash_version hash "
           "previous_hash".split())
TIME = re.compile(r"(\d{4}|-\d{6})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{3})Z")

class Broken(Exception): ...


def millis(text):
    """RFC 3339 in UTC with milliseconds, as milliseconds since 1970."""
    found = TIME.fullmatch(text)
    if not found:
        raise Broken(f"{text!r} is no time")
    year, month, day, hour, minute, second, milli = map(int, found.groups())
    # The day's number, by the calendar that repeats itself every 400 years and begins in March.
    of_era, era = (year - (month <= 2)) % 400, (year - (month <= 2)) // 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + milli


def number(value):
    if type(value) is not int:
        raise Broken(f"{value!r} is no whole number")
    return struct.pack(">q", value)


def text(value):
    if not isinstance(value, str):
        raise Broken(f"{value!r} is no text")
    return value.encode()


def hash_of(key, entry):
    fields = [number(entry["seq"]), text(entry["kind"]), number(millis(entry["at"]))]
    fields += [text(entry[name]) for name in ("event_id", "account", "phone")]
    maybe = lambda name, make: fields.append(None if entry[name] is None else make(entry[name]))
    maybe("status", number)
    maybe("event_time", lambda time: number(millis(time)))
    maybe("reason", text)
    if entry["hash_version"] != 1:
        fields.append(number(entry["hash_version"]))
        maybe("received_at", lambda time: number(millis(time)))
        maybe("method", text)
        maybe("source_event_id", text)
    elif any(entry[name] is not None for name in ("received_at", "method", "source_event_id")):
        raise Broken("it is of version 1 and holds what its hash does not cover")
    message = text(entry["previous_hash"])
    for field in fields:  # each behind its length; 2^64-1 where there is none
        message += struct.pack(">Q", 2**64 - 1) if field is None else struct.pack(">Q", len(field)) + field
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def check(lines, key, head):
    seq, last, head_seen = 0, "0" * 64, head in (None, "0" * 64)
    for seq, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            if line.decode() != json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n":
                raise Broken("the line is not as Hookline writes it")
            if not isinstance(entry, dict) or entry.keys() != KEYS:
                raise Broken("its keys are not those of an entry")
            if entry["seq"] != seq or entry["previous_hash"] != last:
                raise Broken("it does not follow the entry before it")
            if hash_of(key, entry) != entry["hash"]:
                raise Broken("it was changed after it was written, or the key is another one")
        except (Broken, ValueError, TypeError, OverflowError, struct.error) as error:
            raise Broken(f"entry {seq}: {error}") from error
        last, head_seen = entry["hash"], head_seen or entry["hash"] == head
    if not head_seen:
        raise Broken(f"none of the {seq} entries is the head {head}: the tail was cut or rewritten")
    return f"whole: {seq} entries\nhead:  {last}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("export", "key_file", "--head"):
        parser.add_argument(name)
    given = parser.parse_args()
    if given.head and not re.fullmatch("[0-9a-fA-F]{64}", given.head):
        parser.error("a head is a hash of 64 hexadecimal digits")
    try:
        with open(given.key_file, "rb") as key_file, open(given.export, "rb") as export:
            print(check(export, key_file.read().strip(), given.head and given.head.lower()))
    except (Broken, OSError) as error:
        parser.exit(*(1, f"broken: {error}\n") if isinstance(error, Broken) else (2, f"{error}\n"))
