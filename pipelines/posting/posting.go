// Package posting reads posting rules: who pays and who is paid, by purpose and method of a payment, and which fees, points,
// cashback and taxes follow from what happens to its money. A file is checked as a whole before anything is posted by it; docs/postings.md
// is the language. It does no I/O and knows no clock.
package posting

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"sync"

	"sluice/pipelines/ledger"
	"sluice/pipelines/payments"
	"sluice/rules"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

var (
	// StandardFile is what a house posts by that was told nothing else: a fee of 0.6 % on purchases.
	//
	//go:embed standard.yaml
	StandardFile []byte

	// RewardsFile shows what effects can do: fees by tier with the tax in them, points, cashback, the channel's costs.
	//
	//go:embed rewards.yaml
	RewardsFile []byte
)

// PackNames are the files that are shipped.
var PackNames = []string{"standard", "rewards"}

// Pack returns a shipped file, false if there is none of that name.
func Pack(name string) ([]byte, bool) {
	switch name {
	case "standard":
		return StandardFile, true
	case "rewards":
		return RewardsFile, true
	}
	return nil, false
}

var standard struct {
	once  sync.Once
	rules *Rules
}

// Standard returns the rules of StandardFile.
func Standard() *Rules {
	standard.once.Do(func() {
		r, err := Load("standard", StandardFile)
		if err != nil {
			panic(err) // a test loads it
		}
		standard.rules = r
	})
	return standard.rules
}

// Limits of a posting file.
const (
	// MaxEffects bounds the effects of a file; what a purchase from many merchants links is bounded besides.
	MaxEffects = 16
	// MaxParties bounds who pays whom: there are 32 purposes and methods.
	MaxParties = 64
	// MaxFileBytes bounds a file, as rulesets are.
	MaxFileBytes = rules.MaxSourceBytes
	// maxKind is the longest kind: with "_return" behind it, it is within the ledger's 32 bytes.
	maxKind = 25
)

// How many purposes and methods there are, the unspecified ones included.
var (
	purposes = len(eventsv1.PaymentPurpose_name)
	methods  = len(eventsv1.PaymentMethod_name)
)

// Rules are the posting rules of one file. They are payments.Postings and payments.Accounts, and safe for concurrent use.
type Rules struct {
	Name    string
	Version int
	Source  []byte

	parties []party
	effects []effect
	// by purpose × methods + method
	who     []*party
	follows [][]follow
	feeBack [len(backMoments)]way // of fees, which go back alike

	frames sync.Pool
}

// ID names the rules as logs do: "house@1".
func (r *Rules) ID() string { return fmt.Sprintf("%s@%d", r.Name, r.Version) }

// Checksum is the start of the file's SHA-256.
func (r *Rules) Checksum() string {
	sum := sha256.Sum256(r.Source)
	return hex.EncodeToString(sum[:6])
}

// party says between which accounts payments move their money.
type party struct {
	id           string
	line         int
	when         *rules.Condition
	payer, payee account
	kept         account
	keeps        bool // kept is there: such a payment can be disputed
}

// way is how an effect goes back.
type way uint8

const (
	keep  way = iota // it does not
	all              // once nothing of the payment is left
	share            // in proportion to what goes back
)

var wayNames = [...]string{"keep", "all", "share"}

// backMoments are the moments at which money goes back; a lost dispute is a charge-back.
var backMoments = [...]payments.Moment{payments.OnRefund, payments.OnChargeBack, payments.OnVoid, payments.OnFailure}

// backIndex is the place of a moment in backMoments, -1 if nothing goes back at it.
func backIndex(m payments.Moment) int {
	switch m {
	case payments.OnRefund:
		return 0
	case payments.OnChargeBack, payments.OnDisputeLost:
		return 1
	case payments.OnVoid:
		return 2
	case payments.OnFailure:
		return 3
	}
	return -1
}

// effect is what else is posted at a moment.
type effect struct {
	id            string
	line          int
	on            payments.Moment
	when          *rules.Condition // nil: always
	debit, credit account
	amount        *rules.Number
	kind, ret     string // and of its way back
	round         rules.Rounding
	back          [len(backMoments)]way

	fee    bool // it is the payee's fee: it stands in Payment.Fee
	shared bool // one for each share of a payment
	side   side // whose currency it has; anySide: the payer's
}

// follow is an effect on payments of one purpose and method.
type follow struct {
	*effect
	sure bool // its condition holds for all of them
}

// terms are what formulas of effects can name; partyTerms what the conditions of parties can.
var terms, partyTerms = mustTerms([]string{
	"payment.purpose", "payment.method", "payment.amount", "payment.merchant", "payment.counterparty", "payment.account",
	"customer.id", "customer.tier", "event.currency", "event.time",
}, []rules.Term{
	amountTerm: {Name: "amount", Amount: true, Says: "of moved: all captured so far; of other moments: what they move; for effects of the payee in his currency"},
	feeTerm:    {Name: "fee", Amount: true, AtMost: "amount", Says: "the payee's fee on it, as it then stands"},
	exchanged:  {Name: "payment.exchanged", Flag: true, Says: "payer and payee have different currencies"},
	3: {Name: "payment.channel", Text: func(e *events.Event) string { return e.PaymentChannel },
		Says: "payment channel that carries it, \"\" where none was named"},
}), mustTerms([]string{"payment.purpose", "payment.method"}, nil)

// The terms that are set for each effect.
const (
	amountTerm = iota
	feeTerm
	exchanged
)

func mustTerms(words []string, own []rules.Term) *rules.Terms {
	t, err := rules.NewTerms(words, own)
	if err != nil {
		panic(err) // the words above
	}
	return t
}

// Words lists what the formulas of effects can name, each with what it means.
func Words() [][2]string { return terms.Words() }

// frame is what formulas are evaluated over.
type frame struct {
	*rules.Frame
	event events.Event
}

func (r *Rules) party(p *payments.Payment) *party {
	i := int(p.Purpose)*methods + int(p.Method)
	if i < 0 || i >= len(r.who) || r.who[i] == nil {
		return r.who[methods*int(eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP)+1] // no event has such a purpose and method
	}
	return r.who[i]
}

// Payer is part of payments.Accounts.
func (r *Rules) Payer(p *payments.Payment) ledger.AccountKey {
	return r.party(p).payer.key(&cast{r, p, p.Merchant}, p.Currency)
}

// Payee is part of payments.Accounts.
func (r *Rules) Payee(p *payments.Payment, merchant string) ledger.AccountKey {
	return r.party(p).payee.key(&cast{r, p, merchant}, p.PayeeCurrency())
}

// Kept is part of payments.Accounts.
func (r *Rules) Kept(p *payments.Payment, merchant string) (ledger.AccountKey, bool) {
	who := r.party(p)
	if !who.keeps {
		return "", false
	}
	return who.kept.key(&cast{r, p, merchant}, p.PayeeCurrency()), true
}

// Cleared is part of payments.Accounts.
func (r *Rules) Cleared(p *payments.Payment) (pays, paid bool) {
	who := r.party(p)
	return who.payer.ofChannel(), who.payee.ofChannel()
}
