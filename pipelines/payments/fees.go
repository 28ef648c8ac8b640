package payments

import eventsv1 "sluice/schemas/events/v1"

// BasisPoint is the divisor of a fee in basis points: 10,000 are the whole amount.
const BasisPoint = 10_000

// FeeRule is what the house keeps of a payment of one purpose and method.
type FeeRule struct {
	Purpose     eventsv1.PaymentPurpose
	Method      eventsv1.PaymentMethod // unspecified: any
	BasisPoints int64                  // of the amount, 0 to BasisPoint
}

// FeeSchedule is tried from the top; the first rule that fits counts, and none means no fee.
type FeeSchedule []FeeRule

// StandardFees are the house's fees: a merchant pays 0.6 % of each purchase.
func StandardFees() FeeSchedule {
	return FeeSchedule{{Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE, BasisPoints: 60}}
}

// Fee returns the fee on an amount in minor units, rounded half up to the minor unit.
func (s FeeSchedule) Fee(purpose eventsv1.PaymentPurpose, method eventsv1.PaymentMethod, amount int64) int64 {
	for _, r := range s {
		if r.Purpose == purpose && (r.Method == method || r.Method == eventsv1.PaymentMethod_PAYMENT_METHOD_UNSPECIFIED) {
			// Whole and rest apart: the product with the whole amount could leave 64 bits.
			whole, rest := amount/BasisPoint, amount%BasisPoint
			return whole*r.BasisPoints + (rest*r.BasisPoints+BasisPoint/2)/BasisPoint
		}
	}
	return 0
}
