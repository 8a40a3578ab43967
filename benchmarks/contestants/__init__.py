"""The servers that Rheostat is measured against, each started and stopped here."""
