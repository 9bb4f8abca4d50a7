// A Rust program with a heap that is used: threads with maps, vectors and strings of their own, passed on to others through
// channels. Prints digests. Usage: churn ITEMS
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;

const WORKERS: u64 = 4;

struct Item {
    name: String,
    data: Vec<u64>,
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn make(worker: u64, count: u64) -> BTreeMap<u64, Box<Item>> {
    let mut state = worker * 7919 + 1;
    let mut items = BTreeMap::new();
    for i in 0..count {
        let key = random(&mut state);
        let data = (1..9 + key % 48).map(|word| key.wrapping_mul(word)).collect();
        items.insert(key, Box::new(Item { name: format!("item-{:x}", key), data }));
        if i % 3 == 2 {
            let first = *items.keys().next().unwrap();
            items.remove(&first);
        }
    }
    items
}

fn check(items: &BTreeMap<u64, Box<Item>>) -> u64 {
    let mut digest = 0u64;
    for (key, item) in items {
        assert_eq!(item.name, format!("item-{:x}", key), "a name is wrong");
        for (i, word) in item.data.iter().enumerate() {
            assert_eq!(*word, key.wrapping_mul(i as u64 + 1), "item {:x}: word {} is wrong", key, i);
        }
        digest = digest.wrapping_mul(31).wrapping_add(*key);
    }
    digest
}

fn main() {
    let count: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let (send, receive) = mpsc::channel();
    for worker in 0..WORKERS {
        let send = send.clone();
        thread::spawn(move || send.send((worker, make(worker, count / WORKERS))).unwrap());
    }
    drop(send);
    // Checked, and freed, by other threads than those that made them.
    let checkers: Vec<_> = receive
        .into_iter()
        .map(|(worker, items)| thread::spawn(move || (worker, items.len(), check(&items))))
        .collect();
    let mut results: Vec<_> = checkers.into_iter().map(|one| one.join().unwrap()).collect();
    results.sort();
    println!("digests {:?}", results);
}
