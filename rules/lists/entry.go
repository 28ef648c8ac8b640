// Package lists keeps allow, deny and watch lists in memory and answers what rules ask of them: is a value listed, by itself,
// by its CIDR block or by a prefix, and which listed name is it most like. It also has the form in which entries travel on
// the control topic, and the CSV form in which they are imported. It reads no clock: an entry expires by the event's time.
package lists

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sluice/rules"
)

// Limits of one entry.
const (
	// MaxListName bounds a list's name, in bytes.
	MaxListName = 64
	// MaxValue bounds an entry's value, in bytes: ids, addresses and names are far shorter.
	MaxValue = 256
	// MaxReason bounds why an entry is listed, in bytes.
	MaxReason = 500
	// MaxBy bounds who listed it, in bytes.
	MaxBy = 128
	// MaxSnooze bounds how long a rule is snoozed for: a rule that must be quiet for longer is wrong and wants changing.
	MaxSnooze = 90 * 24 * time.Hour
)

// Kind says what an entry covers.
type Kind uint8

// The kinds.
const (
	Value  Kind = iota // this very value
	CIDR               // every IP address in a block, "203.0.113.0/24" or "2001:db8::/32"
	Prefix             // every value that starts with this
	Name               // names of people and companies that are like this one; only similarity() asks for it
)

var kindNames = [...]string{"value", "cidr", "prefix", "name"}

// String returns the word for it on the control topic.
func (k Kind) String() string { return kindNames[k] }

// ParseKind reads a kind's word; "" is Value.
func ParseKind(word string) (Kind, error) {
	for k, name := range kindNames {
		if word == name {
			return Kind(k), nil
		}
	}
	if word == "" {
		return Value, nil
	}
	return 0, fmt.Errorf("kind %q is none: use value, cidr, prefix or name", clip(word))
}

// Entry is one line of a list. List, Kind and Value together identify it.
type Entry struct {
	List    string
	Kind    Kind
	Value   string // as New writes it
	Reason  string // why it is listed, for a person
	By      string // who listed it
	Added   time.Time
	Expires time.Time // the first moment at which it does not count any more; zero: never
}

// New returns an entry with its value in the one form that identifies it: without blanks around it, a CIDR block
// without host bits, an address as its block of one. An error says what to write instead.
func New(list string, kind Kind, value string) (Entry, error) {
	value = strings.TrimSpace(value)
	if kind == CIDR {
		block, err := parseBlock(value)
		if err != nil {
			return Entry{}, err
		}
		value = block.String()
	}
	e := Entry{List: list, Kind: kind, Value: value}
	return e, e.checkIdentity()
}

// parseBlock reads a CIDR block, or an address as the block that holds only it.
func parseBlock(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is no CIDR block: write one such as 203.0.113.0/24 or 2001:db8::/32", clip(text))
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	block, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no CIDR block: write one such as 203.0.113.0/24 or 2001:db8::/32", clip(text))
	}
	if addr := block.Addr(); addr.Is4In6() { // ::ffff:203.0.113.0/120 is 203.0.113.0/24
		if block.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q holds all of IPv4 and more: write the IPv4 and the IPv6 block as two entries", clip(text))
		}
		block = netip.PrefixFrom(addr.Unmap(), block.Bits()-96)
	}
	return block.Masked(), nil
}

// Key identifies the entry on the control topic: "watch-cards/value/tok_123".
func (e *Entry) Key() string { return e.List + "/" + e.Kind.String() + "/" + e.Value }

// ParseKey reads such a key.
func ParseKey(key string) (Entry, error) {
	list, rest, ok := strings.Cut(key, "/")
	word, value, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 || word == "" {
		return Entry{}, fmt.Errorf("key %q is not LIST/KIND/VALUE", clip(key))
	}
	kind, err := ParseKind(word)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{List: list, Kind: kind, Value: value}
	return e, e.checkIdentity()
}

// Check says whether the entry may be published; an error says what to change.
func (e *Entry) Check() error {
	if err := e.checkIdentity(); err != nil {
		return err
	}
	switch {
	case len(e.Reason) > MaxReason || !utf8.ValidString(e.Reason):
		return fmt.Errorf("the reason is longer than %d bytes or no UTF-8", MaxReason)
	case len(e.By) > MaxBy || !utf8.ValidString(e.By):
		return fmt.Errorf("who listed it is longer than %d bytes or no UTF-8", MaxBy)
	case e.Added.IsZero():
		return errors.New("added is missing: the time at which it was listed, such as 2026-11-24T08:00:00Z")
	case !inRange(e.Added) || !e.Expires.IsZero() && !inRange(e.Expires):
		return errors.New("a time is outside of 1970 to 2200")
	case !e.Expires.IsZero() && !e.Expires.After(e.Added):
		return fmt.Errorf("it expires at %s, which is not after it was added at %s", e.Expires.Format(time.RFC3339), e.Added.Format(time.RFC3339))
	case e.List == rules.SnoozeList && e.Expires.IsZero():
		return errors.New("a snooze must end: give expires")
	case e.List == rules.SnoozeList && e.Expires.Sub(e.Added) > MaxSnooze:
		return fmt.Errorf("a snooze is longer than %d days: change the rule instead", MaxSnooze/(24*time.Hour))
	}
	return nil
}

func inRange(t time.Time) bool { return t.Year() >= 1970 && t.Year() < 2200 }

func (e *Entry) checkIdentity() error {
	if err := CheckName(e.List); err != nil {
		return err
	}
	switch {
	case e.Value == "":
		return errors.New("the value is empty")
	case len(e.Value) > MaxValue:
		return fmt.Errorf("the value has %d bytes; at most %d are allowed", len(e.Value), MaxValue)
	case !utf8.ValidString(e.Value) || strings.ContainsFunc(e.Value, unicode.IsControl):
		return fmt.Errorf("the value %q holds control characters or is no UTF-8", clip(e.Value))
	case strings.TrimSpace(e.Value) != e.Value:
		return fmt.Errorf("the value %q has blanks around it: leave them out", clip(e.Value))
	case e.List == rules.SnoozeList:
		return e.checkSnooze()
	case e.Kind == CIDR:
		block, err := parseBlock(e.Value)
		if err == nil && block.String() != e.Value {
			err = fmt.Errorf("the block %s has another form: write %s", e.Value, block)
		}
		return err
	}
	return nil
}

// checkSnooze holds an entry of the snooze list to one rule and one entity: a prefix would silence a rule for everybody.
func (e *Entry) checkSnooze() error {
	parts := strings.SplitN(e.Value, "/", 3)
	if e.Kind != Value || len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return errors.New("the list snooze takes entries of kind value such as card-testing/customer/C42: rule, field, value")
	}
	return nil
}

// listName is what a rule can ask for.
var listName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// CheckName says whether a list may have a name: small letters, digits and dashes, a letter first.
func CheckName(list string) error {
	if len(list) > MaxListName || !listName.MatchString(list) {
		return fmt.Errorf("%q is no name of a list: use up to %d small letters, digits and dashes, such as watch-cards", clip(list), MaxListName)
	}
	return nil
}

// wire is an entry's JSON.
type wire struct {
	List    string     `json:"list"`
	Kind    string     `json:"kind"`
	Value   string     `json:"value"`
	Reason  string     `json:"reason,omitempty"`
	By      string     `json:"by,omitempty"`
	Added   time.Time  `json:"added"`
	Expires *time.Time `json:"expires,omitempty"`
}

// Encode writes a checked entry for the control topic.
func (e *Entry) Encode() (key, value []byte, err error) {
	if err := e.Check(); err != nil {
		return nil, nil, err
	}
	w := wire{List: e.List, Kind: e.Kind.String(), Value: e.Value, Reason: e.Reason, By: e.By, Added: e.Added.UTC()}
	if !e.Expires.IsZero() {
		expires := e.Expires.UTC()
		w.Expires = &expires
	}
	value, err = json.Marshal(w)
	return []byte(e.Key()), value, err
}

// Decode reads a record of the control topic; removed says that it is a tombstone, of which only what identifies the entry
// is known. Fields that it does not know are passed over, so that a newer writer is understood.
func Decode(key, value []byte) (e Entry, removed bool, err error) {
	if e, err = ParseKey(string(key)); err != nil {
		return Entry{}, false, err
	}
	if len(value) == 0 {
		return e, true, nil
	}
	var w wire
	if err := json.Unmarshal(value, &w); err != nil {
		return Entry{}, false, fmt.Errorf("not the JSON of a list entry: %w", err)
	}
	kind, err := ParseKind(w.Kind)
	if err != nil {
		return Entry{}, false, err
	}
	if w.List != e.List || kind != e.Kind || w.Value != e.Value {
		return Entry{}, false, fmt.Errorf("the entry says %s/%s/%s and its key %s; they must be the same", clip(w.List), kind, clip(w.Value), clip(string(key)))
	}
	e.Reason, e.By, e.Added = w.Reason, w.By, w.Added.UTC()
	if w.Expires != nil {
		e.Expires = w.Expires.UTC()
	}
	return e, false, e.Check()
}

// ParseExpires reads when an entry expires: a time (RFC 3339), or a day, which is the last one on which it counts (UTC).
func ParseExpires(text string) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.AddDate(0, 0, 1), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time: write 2026-12-31 (the last day that counts, UTC) or 2026-12-31T18:00:00Z", clip(text))
	}
	return t.UTC(), nil
}

// clip shortens a text for an error.
func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
