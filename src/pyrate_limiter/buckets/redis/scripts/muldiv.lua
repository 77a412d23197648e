-- Return the quotient and the remainder of a * b / m, for b <= m: exact where a * b is not.
local function muldiv(a, b, m)
  if a * b < HALF then
    local quotient = floor(a * b / m)
    return quotient, a * b - quotient * m
  end
  local base, digits = floor(HALF / m), {}
  while a > 0 do
    digits[#digits + 1] = a % base
    a = floor(a / base)
  end
  local quotient, rest = 0, 0
  for i = #digits, 1, -1 do
    local part = rest * base + digits[i] * b
    local whole = floor(part / m)
    quotient, rest = quotient * base + whole, part - whole * m
  end
  return quotient, rest
end
