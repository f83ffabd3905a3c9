package main

import (
	"fmt"
	"net"
)

func echo(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, 16384)
	for {
		k, err := conn.Read(buf)
		if err != nil {
			return
		}
		if _, err := conn.Write(buf[:k]); err != nil {
			return
		}
	}
}

// An echo server, a goroutine a connection; package net sets TCP_NODELAY by itself.
func tcpEcho(port int) {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		panic(err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go echo(conn)
	}
}
