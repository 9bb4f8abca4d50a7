// A JVM program with a heap that is used: maps, lists, strings, garbage and big arrays. Prints digests.
import java.util.*;

public class Churn {
    record Item(long key, String name, int[] data) {}

    public static void main(String[] arguments) {
        int count = Integer.parseInt(arguments[0]);
        Random random = new Random(11);
        // In a list, as a table of a report would be; one in a hundred is also found by its key and sorted. To sort all
        // by their names would touch all of the heap at random some hundred million times.
        List<Item> items = new ArrayList<>();
        Map<Long, Item> chosen = new HashMap<>();
        for (int i = 0; i < count; i++) {
            long key = random.nextLong();
            int[] data = new int[16 + random.nextInt(32)];
            for (int j = 0; j < data.length; j++) data[j] = (int) (key >>> (j % 32)) ^ j;
            Item item = new Item(key, "item-" + key, data);
            items.add(item);
            if (i % 100 == 0) chosen.put(key, item);
        }
        List<Item> sorted = new ArrayList<>(chosen.values());
        sorted.sort(Comparator.comparing(Item::name));
        long digest = 0;
        for (Item item : sorted) digest = digest * 31 + item.name().hashCode();
        for (Item item : items) {
            if (!item.name().equals("item-" + item.key())) throw new IllegalStateException("name of " + item.key());
            for (int j = 0; j < item.data().length; j++) {
                if (item.data()[j] != ((int) (item.key() >>> (j % 32)) ^ j)) {
                    throw new IllegalStateException("data of " + item.key());
                }
            }
        }
        // Half becomes garbage; the collector moves the rest.
        sorted = null;
        chosen = null;
        for (int i = 0; i < items.size(); i += 2) items.set(i, null);
        items.removeIf(Objects::isNull);
        byte[][] blocks = new byte[64][];
        for (int round = 0; round < 6; round++) {
            for (int i = 0; i < blocks.length; i++) {
                blocks[i] = new byte[256 << 10];
                Arrays.fill(blocks[i], (byte) (round * 7 + i));
            }
        }
        for (int i = 0; i < blocks.length; i++) digest = digest * 31 + Arrays.hashCode(blocks[i]);
        long sum = 0;
        for (Item item : items) sum += item.key() ^ item.data()[3];
        System.out.println("digest " + digest + " sum " + sum + " items " + items.size());
    }
}
