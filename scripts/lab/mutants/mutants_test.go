package mutants

import (
	"strings"
	"testing"
)

const root = "../../.."

// When the code moves on, it must be seen before a mutant is run, which takes long.
func TestOverlay_EveryEditFitsTheSource(t *testing.T) {
	for _, m := range All {
		if _, err := m.Overlay(root); err != nil {
			t.Error(err)
		}
	}
	for _, b := range Bugs {
		if _, err := b.Overlay(root); err != nil {
			t.Error(err)
		}
	}
}

// Each of the eleven has a mutant that is there for it.
func TestMutants_CoverEveryInvariant(t *testing.T) {
	made := map[string]bool{}
	for _, m := range All {
		made[m.Invariant] = true
	}
	for _, id := range strings.Fields("order-terminal charged-once stock-conserved books-balance ledger-complete refund-bounded payout-at-most-once nothing-in-doubt called-back no-dangling-reference same-answer") {
		if !made[id] {
			t.Errorf("%s could be blind: no mutant is made for it", id)
		}
		delete(made, id)
	}
	if len(made) > 0 {
		t.Errorf("mutants for what is no invariant: %v", made)
	}
}

func TestChosen_RefusesAnUnknownName(t *testing.T) {
	if _, err := Chosen([]string{"guard-removed", "guard-reversed"}); err == nil || !strings.Contains(err.Error(), `"guard-reversed"`) || !strings.Contains(err.Error(), "guard-removed") {
		t.Errorf("misspelt: %v", err)
	}
	if some, err := Chosen([]string{"guard", "key-not"}); err != nil || len(some) != 2 {
		t.Errorf("%d chosen, %v", len(some), err)
	}
	if all, err := Chosen(nil); err != nil || len(all) != len(All) {
		t.Errorf("%d of %d chosen, %v", len(all), len(All), err)
	}
	if _, err := ChosenBugs([]string{"memory-refuses-a-rety"}); err == nil {
		t.Error("a misspelt bug is no error")
	}
}
