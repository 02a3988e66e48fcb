package testenv

// OpenLock for the test of two users, of whom one makes the file.
var OpenLock = openLock
