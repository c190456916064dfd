-- What steps do to one text, as Rasa keeps it.
try('TIME')
try('SET', KEYS[1], 'a', 'PX', 1000)
try('PEXPIRE', KEYS[1], 1000)
try('GET', KEYS[1])
try('DEL', KEYS[1])
