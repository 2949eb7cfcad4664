"""Pure decisions and the words they are made of: nothing here awaits, opens or waits."""
