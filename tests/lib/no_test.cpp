// No test: the headers of all others are compiled beforehand for the program that this is (tests/CMakeLists.txt).
int main() {
    return 0;
}
