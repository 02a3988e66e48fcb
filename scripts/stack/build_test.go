package stack

import (
	"slices"
	"testing"
)

// An edit is built into the programs that it reaches, and the others are the unedited
// ones. One too few would be an experiment that shows nothing.
func TestReaches_TheProgramsMadeOfAnEditedFile(t *testing.T) {
	for file, want := range map[string][]string{
		"services/orders/accept.go":                     {Orders},
		"services/ledger/migrations/00001_ledger.sql":   {Ledger},
		"shared/pattern/distributedtx/participant.go":   {Ledger, Payments},
		"shared/pattern/callback/schema.sql":            {Orders},
		"shared/pattern/idempotency/response.go":        {Payments, Orders},
		"shared/pattern/reliableretries/doc.go":         {Ledger, Payments, Orders},
		"scripts/sandbox/changes.go":                    {Sandbox},
		"shared/pattern/idempotency/not_there/other.go": nil,
	} {
		var reached []string
		for _, name := range Processes {
			yes, err := reaches(map[string]string{file: ""}, name)
			if err != nil {
				t.Fatal(err)
			}
			if yes {
				reached = append(reached, name)
			}
		}
		if !slices.Equal(reached, want) {
			t.Errorf("%s reaches %v, want %v", file, reached, want)
		}
	}
}
