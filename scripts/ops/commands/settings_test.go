package commands

import (
	"os"
	"strings"
	"testing"
)

// What is set wins over what `make run` wrote; where there is neither, it says what to do.
func TestSetting_ComesFromTheEnvironmentThenTheRunFile(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("POSTGRES_URL", "")
	if _, err := Setting("POSTGRES_URL"); err == nil || !strings.Contains(err.Error(), "make run") {
		t.Errorf("nothing is running: %v", err)
	}
	if err := os.Mkdir(".run", 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(".run/env", []byte("OTHER='x'\nPOSTGRES_URL='postgres://run@host/postgres?sslmode=disable'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if at, err := here.database("payments"); err != nil || at != "postgres://run@host/payments?sslmode=disable" {
		t.Errorf("%s, %v", at, err)
	}
	t.Setenv("POSTGRES_URL", "postgres://me@there/postgres")
	if at, err := here.database("orders"); err != nil || at != "postgres://me@there/orders" {
		t.Errorf("%s, %v", at, err)
	}
}
