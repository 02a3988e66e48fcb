package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestLock_RefusesASecondRunInTheSameDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), ".run")
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir); err == nil || !strings.Contains(err.Error(), "running already") {
		t.Errorf("the second: %v", err)
	}
	unlock()
	unlock, err = lock(dir)
	if err != nil {
		t.Errorf("after the first: %v", err)
	} else {
		unlock()
	}
}
