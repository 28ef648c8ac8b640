package lending

import "sluice/pipelines/ledger"

func (l *Loan) transfer(debit, credit ledger.AccountKey, amount int64, kind string) ledger.Transfer {
	return ledger.Transfer{Debit: debit, Credit: credit, Amount: amount, Currency: l.Currency, Kind: kind}
}

// receivable is what the borrower owes: an asset of the lender.
func (l *Loan) receivable() ledger.AccountKey { return ledger.LoanReceivable(l.ID, l.Currency) }

func (l *Loan) wallet() ledger.AccountKey { return ledger.Wallet(l.Customer, l.Currency) }

// interest is the lender's income.
func (l *Loan) interest(shard int32) ledger.AccountKey {
	return ledger.InterestIncome(shard, l.Currency)
}
