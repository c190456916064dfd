-- Get: the whole queue, as it stands; for layouts where it is no list.
--
-- KEYS  1 the queue
--
-- Reply the elements, head first

return call('LRANGE', KEYS[1], 0, -1)
