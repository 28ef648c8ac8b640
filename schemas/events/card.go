package events

// isCardNumber says whether s is a full card number: 13 to 19 digits, spaces and dashes aside, that pass the Luhn check
// (ISO/IEC 7812-1).
func isCardNumber(s string) bool {
	var digits [19]byte
	n := 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] >= '0' && s[i] <= '9':
			if n == len(digits) {
				return false
			}
			digits[n] = s[i] - '0'
			n++
		case s[i] == ' ' || s[i] == '-':
		default:
			return false
		}
	}
	return n >= 13 && luhn(digits[:n])
}

func luhn(digits []byte) bool {
	sum := 0
	for i := range digits {
		d := int(digits[len(digits)-1-i])
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// MaskCardNumbers returns value with the middle of every card number in it replaced by '*', the first six and last four
// digits kept (PCI DSS 4.0, requirement 3.4.1). A dead letter for CodeCardNumber is kept this way: the one case in which
// a dead letter is not the original bytes.
func MaskCardNumbers(value []byte) []byte {
	out := append([]byte(nil), value...)
	for i := 0; i < len(out); {
		if out[i] < '0' || out[i] > '9' {
			i++
			continue
		}
		end, digits := cardRun(out, i)
		if len(digits) >= 13 && len(digits) <= 19 && isCardNumber(string(out[i:end])) {
			for _, at := range digits[6 : len(digits)-4] {
				out[at] = '*'
			}
		}
		i = end
	}
	return out
}

// cardRun returns the end of a run of digits, single spaces and dashes from start, and where its digits are.
func cardRun(b []byte, start int) (end int, digits []int) {
	end = start
	for i := start; i < len(b); i++ {
		switch {
		case b[i] >= '0' && b[i] <= '9':
			digits = append(digits, i)
			end = i + 1
		case (b[i] == ' ' || b[i] == '-') && end == i:
		default:
			return end, digits
		}
	}
	return end, digits
}
