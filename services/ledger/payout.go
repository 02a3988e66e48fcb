package main

import (
	"context"
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/platform/money"
)

// payoutNews is the data of ledger.payout-sent and ledger.payout-returned.
type payoutNews struct {
	PayoutID   string      `json:"payout_id"`
	MerchantID string      `json:"merchant_id"`
	Amount     money.Money `json:"amount"`
}

// endPayout books how a payout ended. Its beginning, from available to in
// transit, was booked by the distributed transaction (twophase.go).
func (s *service) endPayout(ctx context.Context, e event.Event) error {
	message, err := changerecord.Of(e.Source(), e.ID())
	if err != nil {
		return reliableretries.Permanent(err)
	}
	var in payoutNews
	if err := e.DataAs(&in); err != nil {
		return reliableretries.Permanent(fmt.Errorf("decode %s: %w", e.Type(), err))
	}
	if err := in.Amount.Validate(); err != nil {
		return reliableretries.Permanent(fmt.Errorf("payout %s: %w", in.PayoutID, err))
	}
	if in.Amount.Minor <= 0 || in.Amount.Minor > maxMinor || in.MerchantID == "" || in.PayoutID == "" {
		return reliableretries.Permanent(fmt.Errorf("payout %q of %q over %s makes no sense", in.PayoutID, in.MerchantID, in.Amount))
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	to, kind := platformAccount("cash", in.Amount.Currency), "payout-sent"
	if e.Type() == "ledger.payout-returned" {
		to, kind = merchantAccount("merchant_available", in.MerchantID, in.Amount.Currency), "payout-returned"
	}
	return s.bookOnce(ctx, message, entry{
		ID: id, Kind: kind, Source: in.PayoutID, Reference: in.PayoutID, MerchantID: in.MerchantID,
		Postings: []posting{
			{Account: platformAccount("payouts_in_transit", in.Amount.Currency), Amount: -in.Amount.Minor},
			{Account: to, Amount: in.Amount.Minor},
		},
	})
}
