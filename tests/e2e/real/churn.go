// A Go program with a heap that is used: goroutines with maps, slices and strings of their own, and the garbage collector
// among them. Prints digests. Usage: churn ITEMS
package main

import (
	"fmt"
	"hash/fnv"
	"os"
	"runtime"
	"strconv"
	"sync"
)

const workers = 4

type item struct {
	name string
	data []uint64
	next *item
}

func random(state *uint64) uint64 {
	*state ^= *state << 13
	*state ^= *state >> 7
	*state ^= *state << 17
	return *state
}

func churn(worker int, count int) uint64 {
	state := uint64(worker)*7919 + 1
	items := make(map[uint64]*item)
	keys := make([]uint64, 0, count)
	var last *item
	for i := 0; i < count; i++ {
		key := random(&state)
		data := make([]uint64, 8+key%48)
		for j := range data {
			data[j] = key * uint64(j+1)
		}
		last = &item{name: "item-" + strconv.FormatUint(key, 16), data: data, next: last}
		items[key] = last
		keys = append(keys, key)
		if i%3 == 2 { // garbage, and one less in the middle of the list
			last.next = last.next.next
			delete(items, keys[i-1])
		}
	}
	hash := fnv.New64a()
	for at := last; at != nil; at = at.next {
		hash.Write([]byte(at.name))
	}
	for _, key := range keys {
		found, ok := items[key]
		if !ok {
			continue
		}
		if found.name != "item-"+strconv.FormatUint(key, 16) {
			panic("a name is wrong")
		}
		for j, word := range found.data {
			if word != key*uint64(j+1) {
				panic(fmt.Sprintf("item %x: word %d is wrong", key, j))
			}
		}
	}
	return hash.Sum64()
}

func main() {
	count, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	digests := make([]uint64, workers)
	var wait sync.WaitGroup
	for worker := range digests {
		wait.Add(1)
		go func(worker int) {
			defer wait.Done()
			digests[worker] = churn(worker, count/workers)
		}(worker)
	}
	wait.Wait()
	runtime.GC()
	fmt.Println("digests", digests)
}
