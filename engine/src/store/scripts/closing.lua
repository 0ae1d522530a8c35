-- Part for scripts that know of closing runs, those of jobs whose workers were lost: flags beside those of prelude.lua.
local FENCED, CLOSING, CLOSING_AGAIN = 4096, 8192, 16384
