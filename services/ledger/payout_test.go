package main

import (
	"net/http"
	"testing"
)

// A payout in doubt locks its merchant's accounts, for as long as the coordinator is away.
// Another merchant's payout must not wait for it.
func TestPrepare_OfOneMerchantsPayoutDoesNotHoldUpAnother(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	prepare := func(merchant, gid string) {
		t.Helper()
		mine := "merchant_available:" + merchant + ":GBP"
		e := newEntry{Kind: "payout", Source: gid, Reference: gid, MerchantID: merchant, Postings: transfer("", mine, "payouts_in_transit:"+merchant+":GBP", 100).Postings}
		l.call(http.MethodPost, "/2pc/"+gid+"/prepare", serviceKey, e).want(t, http.StatusNoContent, "")
	}
	for _, merchant := range []string{acme, other} { // the accounts exist, and the first payout of each is over
		l.book(transfer("opening-"+merchant, cash, "merchant_available:"+merchant+":GBP", 1000)).want(t, http.StatusCreated, "")
		prepare(merchant, "before-"+merchant)
		l.call(http.MethodPost, "/2pc/before-"+merchant+"/commit", serviceKey, struct{}{}).want(t, http.StatusNoContent, "")
	}
	prepare(acme, "in-doubt")
	prepare(other, "another") // the one in doubt holds its locks: were they in the way, this would not return
	l.call(http.MethodPost, "/2pc/another/rollback", serviceKey, struct{}{}).want(t, http.StatusNoContent, "")
	l.call(http.MethodPost, "/2pc/in-doubt/rollback", serviceKey, struct{}{}).want(t, http.StatusNoContent, "")
}
