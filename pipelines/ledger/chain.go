package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"time"
)

// Posted is a transfer as the book keeps it.
type Posted struct {
	Transfer
	DebitID, CreditID           int64 // the accounts' numbers
	DebitVersion, CreditVersion int64 // the accounts' versions after this transfer: its place in each account's history

	Shard    int32     // whose writer posted it
	Number   int64     // its gapless number in the shard, from 1
	Sequence int64     // the result it belongs to, in the shard
	Time     time.Time // of the event, microseconds

	debit, credit *Account
}

// ShardBits is how many low bits of a transfer's id are its shard: at most 4,096 shards, 2^51 transfers each.
const ShardBits = 12

// MaxShards bounds the number of shards, that is of Kafka partitions.
const MaxShards = 1 << ShardBits

// ID is the transfer's number in the whole book.
func (p *Posted) ID() int64 { return p.Number<<ShardBits | int64(p.Shard) }

// Hash is the hash of a batch.
type Hash [sha256.Size]byte

// Chain returns the hash of a shard's batch: SHA-256 over the hash of the batch before it (32 zero bytes for the first),
// the canonical form of its transfers in order of number, and that of its steps of holds in order of number.
//
// The canonical form of a transfer is, in this order: number, sequence, debit account id, debit version, credit account
// id, credit version, amount and event time (microseconds since 1970-01-01 UTC), each as 8 bytes big-endian; then the
// currency's code and the kind, each as a length of one byte and its bytes. That of a step is a byte 0xff, which begins
// no transfer; number, sequence, debit account id, credit account id, amount, what is open after it, event time and
// expiry (the least int64 for none), each as 8 bytes big-endian; its fate as one byte; the currency's code and the kind
// as above, and the hold's id after a length of two bytes.
func Chain(previous Hash, transfers []Posted, steps ...Step) Hash {
	h := sha256.New()
	h.Write(previous[:])
	var buf [512]byte
	for i := range transfers {
		p := &transfers[i]
		b := buf[:0]
		for _, n := range [...]int64{p.Number, p.Sequence, p.DebitID, p.DebitVersion, p.CreditID, p.CreditVersion, p.Amount, p.Time.UnixMicro()} {
			b = binary.BigEndian.AppendUint64(b, uint64(n))
		}
		b = appendText(b, p.Currency.Code())
		b = appendText(b, p.Kind)
		h.Write(b)
	}
	for i := range steps {
		h.Write(steps[i].canonical(buf[:0]))
	}
	var sum Hash
	h.Sum(sum[:0])
	return sum
}

// stepMark begins the canonical form of a step; a transfer's begins with its number, which is positive.
const stepMark = 0xff

func (s *Step) canonical(b []byte) []byte {
	b = append(b, stepMark)
	expires := int64(math.MinInt64)
	if !s.Expires.IsZero() {
		expires = s.Expires.UnixMicro()
	}
	for _, n := range [...]int64{s.Number, s.Sequence, s.DebitID, s.CreditID, s.Amount, s.Open, s.Time.UnixMicro(), expires} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = append(b, byte(s.Fate))
	b = appendText(b, s.Currency.Code())
	b = appendText(b, s.Kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.Pending)))
	return append(b, s.Pending...)
}

func appendText(b []byte, s string) []byte {
	b = append(b, byte(len(s)))
	return append(b, s...)
}
