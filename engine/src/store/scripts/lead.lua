-- Part for scripts with a cut-off: true when less than (or, unless inclusive, exactly) `lead` ms are left to the job's time.
local function too_close(r, lead, inclusive)
  if not lead then return false end
  local left = r.run_at - NOW
  return left < lead or (left == lead and not inclusive)
end
