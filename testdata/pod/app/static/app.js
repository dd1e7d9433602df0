document.documentElement.dataset.app = "prose";
