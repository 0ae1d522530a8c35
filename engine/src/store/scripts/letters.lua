-- Part for scripts that read signals: a letter is flag (1: used up), instant, name, idempotency key, payload.
local function open_letter(letter)
  local used, sent_at, name, idem, after = struct.unpack('<BI6Bc0Bc0', letter)
  return used, sent_at, name, idem, string.sub(letter, after)
end
