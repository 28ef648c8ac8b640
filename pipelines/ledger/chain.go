package ledger

import (
	"crypto/sha256"
	"encoding/binary"
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

// Chain returns the hash of a shard's batch: SHA-256 over the hash of the batch before it (32 zero bytes for the first)
// and the canonical form of its transfers in order of number. The canonical form of a transfer is, in this order: number,
// sequence, debit account id, debit version, credit account id, credit version, amount and event time (microseconds
// since 1970-01-01 UTC), each as 8 bytes big-endian; then the currency's code and the kind, each as a length of one byte
// and its bytes.
func Chain(previous Hash, transfers []Posted) Hash {
	h := sha256.New()
	h.Write(previous[:])
	var buf [128]byte
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
	var sum Hash
	h.Sum(sum[:0])
	return sum
}

func appendText(b []byte, s string) []byte {
	b = append(b, byte(len(s)))
	return append(b, s...)
}
