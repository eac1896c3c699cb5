"""What any torch project needs: ranks, random streams, statistics, operators. No GAN words here."""
