package main

import (
	"context"
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"

	"example.com/failwell/shared/platform/money"
)

// payoutNews is the data of ledger.payout-sent and ledger.payout-returned.
type payoutNews struct {
	PayoutID   string      `json:"payout_id"`
	MerchantID string      `json:"merchant_id"`
	Amount     money.Money `json:"amount"`
}

// endPayout books how a payout ended. Its beginning, from available to in
// transit, was booked by the distributed transaction (twophase.go). Only a payout of that
// name and amount can end, and only once: the message alone moves nothing.
func (s *service) endPayout(ctx context.Context, e event.Event) error {
	var in payoutNews
	message, err := decodeNews(e, &in, func() (string, string, money.Money) { return in.MerchantID, in.PayoutID, in.Amount })
	if err != nil {
		return err
	}
	transit := merchantAccount("payouts_in_transit", in.MerchantID, in.Amount.Currency)
	to, kind := platformAccount("cash", in.Amount.Currency), "payout-sent"
	if e.Type() == "ledger.payout-returned" {
		to, kind = merchantAccount("merchant_available", in.MerchantID, in.Amount.Currency), "payout-returned"
	}
	var begun bool
	err = s.db.QueryRow(ctx, `
		SELECT EXISTS (
			SELECT
			  FROM entries e
			  JOIN postings p ON p.entry_id = e.id
			 WHERE e.source = $1
			   AND e.kind = 'payout'
			   AND e.merchant_id = $2
			   AND p.account_id = $3
			   AND p.amount_minor = $4)`,
		in.PayoutID, in.MerchantID, transit, in.Amount.Minor).Scan(&begun)
	if err == nil && !begun {
		err = fmt.Errorf("%s: no payout %s of %s over %v in the books", e.Type(), in.PayoutID, in.MerchantID, in.Amount)
	}
	if err != nil {
		return err
	}
	return s.bookOnce(ctx, message, entry{
		Kind: kind, Source: in.PayoutID, Reference: in.PayoutID, MerchantID: in.MerchantID,
		Postings: []posting{{Account: transit, Amount: -in.Amount.Minor}, {Account: to, Amount: in.Amount.Minor}},
	})
}
