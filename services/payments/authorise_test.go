package main

import (
	"net/http"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"example.com/failwell/shared/pattern/reliableretries"
)

var (
	none = []string{}
	held = []string{"authorised"}
)

func TestAuthorise_ARefusalOfTheCardStaysTheReply(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	unknown := s.order(cardWorks)
	unknown.PaymentToken = "tok_unknown"
	for reason, cmd := range map[string]command{
		"card_declined": s.order(cardDeclined), "insufficient_funds": s.order(cardNoFunds), "unknown_token": unknown,
	} {
		no := "authorise refused " + reason
		s.deliver(message(t, toAuthorise, cmd))
		s.stands(cmd, declined, none, []string{no})
		same(t, "reason", s.payment(cmd).Reason, reason)
		s.deliver(message(t, toAuthorise, cmd)) // a new message with the same meaning
		s.stands(cmd, declined, none, []string{no, no})
	}
}

func TestAuthorise_WhoseAnswerIsLostHoldsOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cmd := s.order(cardWorks)
	m := message(t, toAuthorise, cmd)
	s.arm(rule{Contract: "charges.create", Fault: "lose_answer", Times: 1})
	if err := s.receive(t.Context(), m); err == nil {
		t.Error("a lost answer was taken for one")
	}
	s.stands(cmd, authorising, held, none) // the money is held, and we do not know it

	s.deliver(m)
	s.stands(cmd, authorised, held, []string{"authorise done"})
}

// Whatever is not a clear answer must leave no trace but the begun payment, if that,
// for the same message comes again.
func TestCommand_WithoutAnAnswerOfTheProcessorIsNotRefused(t *testing.T) {
	t.Parallel()
	const callTimeout = time.Second
	for _, step := range []struct {
		kind, contract      string
		open, closed        string // how our record stands without an answer, and with it
		charge, before, yes string
	}{
		{toAuthorise, "payment_methods", "", authorised, "authorised", "", "authorise done"},
		{toAuthorise, "charges.create", authorising, authorised, "authorised", "", "authorise done"},
		{toCapture, "charges.capture", authorised, captured, "captured", "authorise done", "capture done"},
		{toVoid, "charges.void", voiding, voided, "voided", "authorise done", "void done"},
	} {
		t.Run(step.kind+" at "+step.contract, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			hasty := s.with(func(cfg *settings) { cfg.CallTimeout = callTimeout })
			stranger := s.with(func(cfg *settings) { cfg.ProcessorKey = "sk_wrong" })
			astray := s.with(func(cfg *settings) { cfg.ProcessorURL += "/nowhere" })
			for name, trouble := range map[string]struct {
				rule  rule
				asker *shop
			}{
				"an error before the work": {rule{Fault: "fail_before"}, s},
				"the answer is lost":       {rule{Fault: "lose_answer"}, s},
				"a time-out after it":      {rule{Fault: "delay", DelayMS: 2_500, At: "after"}, hasty},
				"a time-out before it":     {rule{Fault: "delay", DelayMS: 2_500, At: "before"}, hasty},
				"our key is wrong":         {rule{Fault: "delay", Times: 1}, stranger},
				"our address is wrong":     {rule{Fault: "delay"}, astray},
			} {
				cmd := s.order(cardWorks)
				before := none
				if step.kind != toAuthorise {
					s.deliver(message(t, toAuthorise, cmd))
					before = []string{step.before}
				}
				trouble.rule.Contract, trouble.rule.Times = step.contract, 1
				s.arm(trouble.rule)
				m := message(t, step.kind, cmd)
				if err := trouble.asker.receive(t.Context(), m); err == nil {
					t.Errorf("%s: done without an answer", name)
				}
				open := step.open
				if step.kind == toAuthorise && trouble.asker != s && trouble.asker != hasty {
					open = "" // a request that cannot reach the processor does not begin
				}
				same(t, name+": our record", s.payment(cmd).Status, open)
				same(t, name+": replies", s.replies(cmd), before)

				s.arm()
				s.deliver(m)
				t.Log(name + ", then asked again")
				s.stands(cmd, step.closed, []string{step.charge}, append(before, step.yes))
			}
		})
	}
}

func TestRedeem_ATokenThatAnotherPaymentHasUsedIsRefused(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cmd := s.order(cardWorks)
	s.redeemFor("pay_somebody_else", cmd)
	s.deliver(message(t, toAuthorise, cmd))
	s.stands(cmd, declined, none, []string{"authorise refused token_already_used"})
}

// We had redeemed the token, and died before we could note it.
func TestRedeem_ATokenThatWeHaveUsedBeforeACrashIsNotLost(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cmd := s.order(cardWorks)
	s.redeemFor(cmd.PaymentID, cmd)
	s.deliver(message(t, toAuthorise, cmd))
	s.stands(cmd, authorised, held, []string{"authorise done"})
	same(t, "payment methods", len(s.methods(cmd)), 1)
}

func (s *shop) redeemFor(reference string, cmd command) {
	s.t.Helper()
	s.ask(http.MethodPost, "/v1/payment_methods", map[string]string{"token": cmd.PaymentToken, "reference": reference}, &struct{}{})
}

func TestAuthorise_TwiceAtOnceHoldsOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for range 5 {
		cmd := s.order(cardWorks)
		// Each call of each of them takes its time, so that they overlap.
		s.arm(rule{Contract: "payment_methods", Fault: "delay", DelayMS: 50, At: "before"},
			rule{Contract: "charges.create", Fault: "delay", DelayMS: 100, At: "before"})
		first, second := message(t, toAuthorise, cmd), message(t, toAuthorise, cmd)
		atOnce(func() { s.insist(first) }, func() { s.insist(second) })
		s.stands(cmd, authorised, held, []string{"authorise done", "authorise done"})
		same(t, "payment methods", len(s.methods(cmd)), 1)
	}
}

func TestCommand_DeliveredAgainIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	for name, deliver := range map[string]func(*shop, event.Event){
		"one after the other": func(s *shop, m event.Event) { s.deliver(m, m, m) },
		"at once": func(s *shop, m event.Event) {
			one := func() { s.insist(m) }
			atOnce(one, one, one, one)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			taken, released, refusal := s.order(cardWorks), s.order(cardWorks), s.order(cardDeclined)
			for _, cmd := range []command{taken, released, refusal} {
				deliver(s, message(t, toAuthorise, cmd))
			}
			deliver(s, message(t, toCapture, taken))
			deliver(s, message(t, toVoid, released))
			deliver(s, message(t, toCapture, taken)) // another message, whose work is done already
			s.stands(taken, captured, []string{"captured"}, []string{"authorise done", "capture done", "capture done"})
			s.stands(released, voided, []string{"voided"}, []string{"authorise done", "void done"})
			s.stands(refusal, declined, none, []string{"authorise refused card_declined"})
		})
	}
}

func TestCapture_RefusedIsDefiniteAndItsHoldCanBeReleased(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cmd := s.order(cardNoCapture)
	s.deliver(message(t, toAuthorise, cmd), message(t, toCapture, cmd))
	const no = "capture refused capture_failed"
	s.stands(cmd, captureFailed, held, []string{"authorise done", no})
	s.deliver(message(t, toCapture, cmd))
	s.stands(cmd, captureFailed, held, []string{"authorise done", no, no})
	s.deliver(message(t, toVoid, cmd))
	s.stands(cmd, voided, []string{"voided"}, []string{"authorise done", no, no, "void done"})
}

func TestCapture_TwiceAtOnceTakesTheMoneyOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cmd := s.order(cardWorks)
	s.deliver(message(t, toAuthorise, cmd))
	s.arm(rule{Contract: "charges.capture", Fault: "delay", DelayMS: 100, At: "before"})
	first, second := message(t, toCapture, cmd), message(t, toCapture, cmd)
	atOnce(func() { s.insist(first) }, func() { s.insist(second) })
	s.deliver(message(t, toCapture, cmd))
	s.stands(cmd, captured, []string{"captured"}, []string{"authorise done", "capture done", "capture done", "capture done"})
}

func TestCapture_OfWhatIsNotHeldIsRefused(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	never, refused := s.order(cardWorks), s.order(cardDeclined)
	s.deliver(message(t, toCapture, never))
	same(t, "replies", s.replies(never), []string{"capture refused not_authorised"})
	s.deliver(message(t, toAuthorise, refused), message(t, toCapture, refused))
	s.stands(refused, declined, none, []string{"authorise refused card_declined", "capture refused not_authorised"})
}

// Another replica has captured, voided or been refused what this one has authorised.
// The database says so, and the processor is not called.
func TestCapture_OfWhatAnotherReplicaHasDecidedDoesNotCallTheProcessor(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	other := s.with(func(*settings) {})
	taken, released, failed := s.order(cardWorks), s.order(cardWorks), s.order(cardNoCapture)
	for _, cmd := range []command{taken, released, failed} {
		s.deliver(message(t, toAuthorise, cmd))
	}
	other.deliver(message(t, toCapture, taken), message(t, toVoid, released), message(t, toCapture, failed))
	s.arm(rule{Contract: "charges.capture", Fault: "delay", DelayMS: 1, Times: 3})
	for _, cmd := range []command{taken, released, failed} {
		s.deliver(message(t, toCapture, cmd))
	}
	same(t, "calls to the processor", s.struck(), 0)
	const no = "capture refused capture_failed"
	s.stands(taken, captured, []string{"captured"}, []string{"authorise done", "capture done", "capture done"})
	s.stands(released, voided, []string{"voided"}, []string{"authorise done", "capture refused not_authorised", "void done"})
	s.stands(failed, captureFailed, held, []string{"authorise done", no, no})
}

// No retry makes these any better.
func TestReceive_ACommandThatMakesNoSenseIsAPermanentError(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for name, spoil := range map[string]func(*command){
		"no order":         func(c *command) { c.OrderID = "ord_x" },
		"no payment":       func(c *command) { c.PaymentID = "" },
		"nothing":          func(c *command) { c.Amount.Minor = 0 },
		"below zero":       func(c *command) { c.Amount.Minor = -1 },
		"unknown currency": func(c *command) { c.Amount.Currency = "XXX" },
	} {
		cmd := s.order(cardWorks)
		spoil(&cmd)
		err := s.receive(t.Context(), message(t, toAuthorise, cmd))
		if !reliableretries.IsPermanent(err) {
			t.Errorf("%s: %v, want a permanent error", name, err)
		}
	}
}

func TestPayments_AMerchantSeesItsOwnOnly(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.seed(acme, "sk_acme")
	s.seed("mer_other", "sk_other")
	cmd := s.order(cardWorks)
	s.deliver(message(t, toAuthorise, cmd))
	for _, path := range []string{"/v1/payments/" + cmd.PaymentID, "/v1/payments?order_id=" + cmd.OrderID} {
		same(t, path+" by its merchant", contains(s.ownAPI(path, "sk_acme"), cmd.PaymentID, "authorised"), true)
		same(t, path+" by another", contains(s.ownAPI(path, "sk_other"), "authorised"), false)
		same(t, path+" with an unknown key", s.ownAPI(path, "sk_wrong").Code, http.StatusUnauthorized)
	}
}
