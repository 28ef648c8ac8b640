//go:build !noembed && (linux || darwin)

package embedded

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Picked ports lie below the ephemeral range of Linux and macOS, so that no outgoing connection takes one between
// picking and listening.
const (
	firstPickedPort = 15000
	lastPickedPort  = 32000
	pickTries       = 100 // far more than ever needed while a few dozen ports are in use
)

// portFree says whether 127.0.0.1:port can be listened on.
func portFree(port int) bool {
	l, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// choosePort returns port if it is free, or picks one when it is 0.
func choosePort(engine string, port int, flag string) (int, error) {
	if port != 0 {
		if !portFree(port) {
			return 0, &PortTakenError{Engine: engine, Port: port, Flag: flag}
		}
		return port, nil
	}
	for range pickTries {
		if p := firstPickedPort + rand.IntN(lastPickedPort-firstPickedPort); portFree(p) {
			return p, nil
		}
	}
	return 0, errors.New("no free port on 127.0.0.1 for " + engine)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
