package main

import (
	"net/http"
	"sync"
	"testing"
)

var released = []string{"voided"}

func TestVoid_BeforeItsAuthoriseLeavesATombstone(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cmd := s.order(cardWorks)
	void, authorise := message(t, toVoid, cmd), message(t, toAuthorise, cmd)
	s.deliver(void)
	s.stands(cmd, voided, none, []string{"void done"})
	s.deliver(authorise)
	s.stands(cmd, voided, none, []string{"authorise refused voided", "void done"})
	// Both again, as other messages.
	s.deliver(message(t, toAuthorise, cmd), message(t, toVoid, cmd), message(t, toCapture, cmd))
	s.stands(cmd, voided, none, []string{
		"authorise refused voided", "authorise refused voided", "capture refused not_authorised", "void done", "void done",
	})
	same(t, "payment methods", len(s.methods(cmd)), 1) // the token was used for nothing, and once
}

// The processor thinks for a while, on either side of its work, and the void does
// not wait for it.
func TestVoid_WhileTheProcessorStillThinksLeavesNothingHeld(t *testing.T) {
	t.Parallel()
	const thinks = 1_000
	for name, rules := range map[string][]rule{
		"before it holds the money":         {{Contract: "charges.create", Fault: "delay", Times: 1, DelayMS: thinks, At: "before"}},
		"after it holds the money":          {{Contract: "charges.create", Fault: "delay", Times: 1, DelayMS: thinks, At: "after"}},
		"and answers amid the release":      {{Contract: "charges.create", Fault: "delay", Times: 1, DelayMS: thinks, At: "after"}, {Contract: "charges.void", Fault: "delay", Times: 1, DelayMS: 2 * thinks, At: "before"}},
		"and answers after the release":     {{Contract: "charges.create", Fault: "delay", Times: 1, DelayMS: thinks, At: "after"}, {Contract: "charges.void", Fault: "delay", Times: 1, DelayMS: 2 * thinks, At: "after"}},
		"and its answer is lost in the end": {{Contract: "charges.create", Fault: "delay", Times: 1, DelayMS: thinks, At: "before"}, {Contract: "charges.create", Fault: "lose_answer", Times: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			cmd := s.order(cardWorks)
			void, authorise := message(t, toVoid, cmd), message(t, toAuthorise, cmd)
			s.arm(rules...)
			var running sync.WaitGroup
			running.Go(func() { s.insist(authorise) })
			eventually(t, "the processor thinks", func() bool { return s.struck() > 0 })
			s.insist(void)
			running.Wait()
			s.stands(cmd, voided, released, []string{"authorise refused voided", "void done"})
			s.deliver(message(t, toVoid, cmd), message(t, toAuthorise, cmd))
			s.stands(cmd, voided, released, []string{"authorise refused voided", "authorise refused voided", "void done", "void done"})
		})
	}
}

// The token is being redeemed when the void comes. No hold was asked for, and
// none will be: the void's tombstone is there first.
func TestVoid_WhileTheTokenIsBeingRedeemedLeavesNothingHeld(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"before", "after"} {
		t.Run("slow "+at+" its work", func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			cmd := s.order(cardWorks)
			void, authorise := message(t, toVoid, cmd), message(t, toAuthorise, cmd)
			s.arm(rule{Contract: "payment_methods", Fault: "delay", Times: 1, DelayMS: 1_000, At: at})
			var running sync.WaitGroup
			running.Go(func() { s.insist(authorise) })
			eventually(t, "the processor thinks", func() bool { return s.struck() > 0 })
			s.insist(void)
			running.Wait()
			s.stands(cmd, voided, none, []string{"authorise refused voided", "void done"})
		})
	}
}

// Two authorise one payment. The processor is slow to redeem the token for one of
// them and refuses the other: then the payment is declined, and nothing is held.
func TestAuthorise_OneOfTwoIsRefusedTheTokenLeavesNothingHeld(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cmd := s.order(cardWorks)
	s.arm(rule{Contract: "payment_methods", Fault: "delay", Times: 1, DelayMS: 1_000, At: "before"})
	first, second := message(t, toAuthorise, cmd), message(t, toAuthorise, cmd)
	var running sync.WaitGroup
	running.Go(func() { s.insist(first) })
	eventually(t, "the processor thinks", func() bool { return s.struck() > 0 })
	s.arm(rule{Contract: "payment_methods", Fault: "refuse"})
	s.insist(second)
	running.Wait()
	s.stands(cmd, declined, none, []string{"authorise refused card_declined", "authorise refused card_declined"})
}

// No delays: either may win, and they may meet anywhere.
func TestVoid_AtOnceWithItsAuthoriseLeavesNothingHeld(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for range 20 {
		cmd := s.order(cardWorks)
		void, authorise := message(t, toVoid, cmd), message(t, toAuthorise, cmd)
		atOnce(func() { s.insist(authorise) }, func() { s.insist(void) })
		same(t, "our record", s.payment(cmd).Status, voided)
		for _, status := range s.charges(cmd) {
			same(t, "charge", status, "voided")
		}
		if got := s.replies(cmd); len(got) != 2 || got[1] != "void done" {
			t.Errorf("replies: %v", got)
		}
	}
}

func TestVoid_ReleasesAHoldThatWeNeverHeardOf(t *testing.T) {
	t.Parallel()
	for contract, after := range map[string][]string{"payment_methods": none, "charges.create": released} {
		t.Run("lost answer of "+contract, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			cmd := s.order(cardWorks)
			authorise := message(t, toAuthorise, cmd)
			s.arm(rule{Contract: contract, Fault: "lose_answer", Times: 1})
			if err := s.receive(t.Context(), authorise); err == nil {
				t.Error("a lost answer was taken for one")
			}
			s.deliver(message(t, toVoid, cmd), authorise)
			s.stands(cmd, voided, after, []string{"authorise refused voided", "void done"})
		})
	}
}

func TestVoid_AfterItsAuthoriseReleasesTheHoldHoweverOften(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cmd := s.order(cardWorks)
	s.deliver(message(t, toAuthorise, cmd))
	s.stands(cmd, authorised, held, []string{"authorise done"})
	first := message(t, toVoid, cmd)
	s.deliver(first, first, message(t, toVoid, cmd))
	s.stands(cmd, voided, released, []string{"authorise done", "void done", "void done"})
}

func TestVoid_TwiceAtOnceIsDoneTwice(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cmd := s.order(cardWorks)
	s.deliver(message(t, toAuthorise, cmd))
	s.arm(rule{Contract: "charges.void", Fault: "delay", DelayMS: 100, At: "before"})
	first, second := message(t, toVoid, cmd), message(t, toVoid, cmd)
	atOnce(func() { s.insist(first) }, func() { s.insist(second) })
	s.stands(cmd, voided, released, []string{"authorise done", "void done", "void done"})
}

func TestVoid_OfADeclinedPaymentReleasesNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cmd := s.order(cardDeclined)
	s.deliver(message(t, toAuthorise, cmd), message(t, toVoid, cmd))
	s.stands(cmd, declined, none, []string{"authorise refused card_declined", "void done"})

	// Declined, and we had not heard of it when the void came.
	unheard := s.order(cardDeclined)
	authorise := message(t, toAuthorise, unheard)
	s.arm(rule{Contract: "charges.create", Fault: "lose_answer", Times: 1})
	if err := s.receive(t.Context(), authorise); err == nil {
		t.Error("a lost answer was taken for one")
	}
	s.deliver(message(t, toVoid, unheard), authorise)
	s.stands(unheard, voided, none, []string{"authorise refused voided", "void done"})
}

// "Done" would be a lie: the money is still held or even taken, and somebody has
// to know.
func TestVoid_OfAHoldThatCannotBeReleasedIsNotDone(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	refuses := func(command) { s.arm(rule{Contract: "charges.void", Fault: "refuse"}) }
	for name, c := range map[string]struct {
		card    string
		before  []string
		trouble func(command)
		charge  string
	}{
		"the processor refuses":                   {cardWorks, nil, refuses, "authorised"},
		"the processor refuses, after a capture":  {cardNoCapture, []string{toCapture}, refuses, "authorised"},
		"it was captured without our knowing how": {cardWorks, nil, s.captureBehindOurBack, "captured"},
	} {
		t.Log(name)
		s.arm()
		cmd := s.order(c.card)
		s.deliver(message(t, toAuthorise, cmd))
		for _, kind := range c.before {
			s.deliver(message(t, kind, cmd))
		}
		c.trouble(cmd)
		replies := s.replies(cmd)
		void := message(t, toVoid, cmd)
		for range 2 {
			if err := s.receive(t.Context(), void); err == nil {
				t.Error("done, although nothing was released")
			}
		}
		s.stands(cmd, voiding, []string{c.charge}, replies)
	}
}

func (s *shop) captureBehindOurBack(cmd command) {
	s.t.Helper()
	s.ask(http.MethodPost, "/v1/charges/"+s.payment(cmd).ChargeID+"/capture", struct{}{}, &struct{}{})
}

func TestVoid_OfWhatIsCapturedIsRefused(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cmd := s.order(cardWorks)
	s.deliver(message(t, toAuthorise, cmd), message(t, toCapture, cmd), message(t, toVoid, cmd))
	s.stands(cmd, captured, []string{"captured"}, []string{"authorise done", "capture done", "void refused already_captured"})
}
