package events

import eventsv1 "sluice/schemas/events/v1"

// PaysMerchant says whether a payment of this purpose is on the account of a merchant.
func PaysMerchant(p eventsv1.PaymentPurpose) bool {
	switch p {
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT,
		eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE_RELEASE:
		return true
	}
	return false
}

// HouseOwn says whether only the house's own settlement may ask for payments of a purpose: nobody else asks for them, so no rule
// is asked about them either.
func HouseOwn(p eventsv1.PaymentPurpose) bool {
	switch p {
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE_RELEASE,
		eventsv1.PaymentPurpose_PAYMENT_PURPOSE_CLEARING:
		return true
	}
	return false
}
